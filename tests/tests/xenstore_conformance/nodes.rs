//! Values, paths, removal, permissions as domain 0 sees them.

use xenpcid_address::DomainId;
use xenstore_protocol::Path;

use crate::{Host, name, path};

crate::on_both!(
    write_makes_the_node_and_its_parents,
    value_may_be_any_bytes_up_to_a_full_message,
    mkdir_keeps_the_value_of_a_node_that_is_there,
    rm_takes_everything_below_and_forgives_an_absent_node,
    root_can_be_written_but_not_removed,
    paths_that_the_server_refuses,
    relative_path_starts_at_the_domains_home,
    children_inherit_permissions_when_they_are_made,
    permissions_are_given_back_as_they_were_set,
    owner_must_exist,
    server_starts_with_its_own_nodes_only,
);

async fn write_makes_the_node_and_its_parents(host: &Host) {
    host.dom0.write(&path("/a/b/c"), "value").await.unwrap();
    assert_eq!(host.dom0.read(&path("/a/b/c")).await.unwrap(), b"value");
    assert_eq!(host.dom0.read(&path("/a/b")).await.unwrap(), b"");
    assert_eq!(host.dom0.directory(&path("/a")).await.unwrap(), ["b"]);
    assert_eq!(name(host.dom0.read(&path("/a/x")).await), "ENOENT");
    assert_eq!(name(host.dom0.directory(&path("/x/y")).await), "ENOENT");
}

async fn value_may_be_any_bytes_up_to_a_full_message(host: &Host) {
    let node = path("/v");
    let bytes: Vec<u8> = (0..=255).cycle().take(4096 - "/v\0".len()).collect();
    host.dom0.write(&node, &bytes).await.unwrap();
    assert_eq!(host.dom0.read(&node).await.unwrap(), bytes);
    host.dom0.write(&node, "").await.unwrap();
    assert_eq!(host.dom0.read(&node).await.unwrap(), b"");
}

async fn mkdir_keeps_the_value_of_a_node_that_is_there(host: &Host) {
    host.dom0.write(&path("/a"), "kept").await.unwrap();
    host.dom0.mkdir(&path("/a")).await.unwrap();
    host.dom0.mkdir(&path("/a/b/c")).await.unwrap();
    assert_eq!(host.dom0.read(&path("/a")).await.unwrap(), b"kept");
    assert_eq!(host.dom0.read(&path("/a/b/c")).await.unwrap(), b"");
}

async fn rm_takes_everything_below_and_forgives_an_absent_node(host: &Host) {
    host.dom0.write(&path("/a/b/c"), "").await.unwrap();
    host.dom0.rm(&path("/a/b")).await.unwrap();
    assert_eq!(name(host.dom0.read(&path("/a/b/c")).await), "ENOENT");
    assert_eq!(host.dom0.directory(&path("/a")).await.unwrap(), Vec::<String>::new());
    assert_eq!(name(host.dom0.rm(&path("/a/b")).await), "OK");
    assert_eq!(name(host.dom0.rm(&path("/nowhere/b")).await), "ENOENT");
    assert_eq!(name(host.dom0.rm_if_present(&path("/nowhere/b")).await), "OK");
}

async fn root_can_be_written_but_not_removed(host: &Host) {
    host.dom0.write(&Path::ROOT, "root").await.unwrap();
    assert_eq!(host.dom0.read(&Path::ROOT).await.unwrap(), b"root");
    assert_eq!(name(host.dom0.rm(&Path::ROOT).await), "EINVAL");
}

async fn paths_that_the_server_refuses(host: &Host) {
    let long = |prefix: &str, length: usize| path(&format!("{prefix}{}", "x".repeat(length)));
    for (path, expected) in [
        (path("@releaseDomain"), "EINVAL"),
        (path("/@name"), "ENOENT"),
        // 2048 bytes are counted from the root, or from a domain's home.
        (long("/", 2047), "ENOENT"),
        (long("/", 2048), "EINVAL"),
        (long("/local/domain/3/", 2048), "ENOENT"),
        (long("/local/domain/3/", 2049), "EINVAL"),
        (long("", 2048), "ENOENT"),
    ] {
        assert_eq!(name(host.dom0.read(&path).await), expected, "{path}");
    }
}

async fn relative_path_starts_at_the_domains_home(host: &Host) {
    host.dom0.write(&path("device/pci"), "here").await.unwrap();
    assert_eq!(host.dom0.read(&path("/local/domain/0/device/pci")).await.unwrap(), b"here");
}

async fn children_inherit_permissions_when_they_are_made(host: &Host) {
    let permissions = "n0,r7,b8".parse().unwrap();
    host.dom0.mkdir(&path("/a/before")).await.unwrap();
    host.dom0.set_permissions(&path("/a"), &permissions).await.unwrap();
    host.dom0.write(&path("/a/after/below"), "").await.unwrap();
    assert_eq!(host.dom0.permissions(&path("/a/before")).await.unwrap().to_string(), "n0");
    assert_eq!(host.dom0.permissions(&path("/a/after/below")).await.unwrap(), permissions);
}

async fn permissions_are_given_back_as_they_were_set(host: &Host) {
    host.create_domain(DomainId(5));
    host.dom0.mkdir(&path("/a")).await.unwrap();
    for text in ["n0", "r0", "w0", "b0", "n5", "r5,w6,b7,n8", "n0,r1,r1", "n0,r32752"] {
        host.dom0.set_permissions(&path("/a"), &text.parse().unwrap()).await.unwrap();
        assert_eq!(host.dom0.permissions(&path("/a")).await.unwrap().to_string(), text);
    }
    assert_eq!(name(host.dom0.set_permissions(&path("/x"), &"n0".parse().unwrap()).await), "ENOENT");
}

async fn owner_must_exist(host: &Host) {
    host.dom0.mkdir(&path("/a")).await.unwrap();
    let permissions = "n5".parse().unwrap();
    assert_eq!(name(host.dom0.set_permissions(&path("/a"), &permissions).await), "ENOENT");
    host.create_domain(DomainId(5));
    assert_eq!(name(host.dom0.set_permissions(&path("/a"), &permissions).await), "OK");
}

async fn server_starts_with_its_own_nodes_only(host: &Host) {
    assert_eq!(host.dom0.directory(&Path::ROOT).await.unwrap(), ["tool"]);
    assert_eq!(host.dom0.directory(&path("/tool")).await.unwrap(), ["xenstored"]);
    assert_eq!(host.dom0.permissions(&Path::ROOT).await.unwrap().to_string(), "n0");
}
