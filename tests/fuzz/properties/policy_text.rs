use xenpcid_config::{ConfigError, Policies};
use xenpcid_policy::policy::DeviceIdentity;
use xenpcid_policy::{Access, Plan, Terms};

use super::devices::recorded;

/// Any text is a policy, or has a mistake inside of it. What is a policy is compiled for a device, or is refused in words;
/// it lets no write pass to what no guest may have; and it has a page. Whether it was a policy.
pub fn text_is_a_policy_or_is_refused_inside_of_it(text: &str) -> bool {
    let policies = match Policies::with([("policy.toml".into(), text.to_owned())]) {
        Ok(policies) => policies,
        Err(ConfigError::Invalid { problems }) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert_eq!(problem.file, "policy.toml");
                assert!((1..=text.lines().count() + 1).contains(&problem.line), "{problem}");
                assert!(problem.column >= 1 && problem.to_string().contains('^'), "{problem}");
            }
            return false;
        }
        Err(error) => panic!("{error}"),
    };
    let policy = policies.get("policy").expect("the policy is called as its file");
    assert!(policies.page("policy").is_some());
    for device in recorded() {
        let is_for_it = policy.applies_to.matches(&DeviceIdentity::new(&device.snapshot, None));
        let plan = match Plan::new(&device.snapshot, &Terms { policy, name: None, vectors: 128 }) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert!(is_for_it, "{}: compiled for a device that it is not for", device.name);
        let _ = plan.explain();
        let mut view = plan.view();
        for (offset, guarded) in &device.guarded {
            for value in [u32::MAX, 0] {
                let Ok(write) = view.write(Access::dword(*offset), value) else { continue };
                let Some(hardware) = write.hardware else { continue };
                let mask = hardware.mask << ((hardware.access.offset() & 3) * 8);
                assert_eq!(mask & guarded, 0, "{}: a guest reaches {offset:#x}\n{text}", device.name);
            }
        }
    }
    true
}
