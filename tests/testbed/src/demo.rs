//! demo
pub fn run(_: &crate::testbed::Testbed, _: crate::Options) -> crate::error::Result<()> {
    Ok(())
}
