//! Names and numbers that the real product hands out, derived stably from what is declared: the
//! same files give the same numbers on every machine.

use names::NetworkId;
use std::net::Ipv4Addr;

/// FNV-1a over parts with a separator, then mixed so that all bits depend on all input.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // The finaliser of splitmix64.
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A project number of twelve digits.
pub(crate) fn project_number(id: &str) -> u64 {
    100_000_000_000 + hash(&["project", id]) % 900_000_000_000
}

/// A service account's unique id: 21 digits, the first one 1.
pub(crate) fn unique_id(email: &str) -> String {
    format!("1{:020}", hash(&["serviceAccount", email]))
}

/// The project's default compute service account.
pub(crate) fn default_service_account(project_number: u64) -> String {
    format!("{project_number}-compute@developer.gserviceaccount.com")
}

/// `pscConnectionId`: the high half belongs to the network (unconfirmed), the low half is the
/// endpoint's address (observed) (1.5).
pub(crate) fn psc_connection_id(network: &NetworkId, address: Ipv4Addr) -> u64 {
    let high = hash(&["pscConnectionId", &network.project, &network.name]) & 0xffff_ffff;
    (high << 32) | u64::from(u32::from(address))
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

fn letters(mut from: u64, count: usize) -> String {
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        text.push(char::from(LETTERS[(from % 26) as usize]));
        from /= 26;
    }
    text
}

/// `SERVICE-00001-abc`: the service's generation, and letters that change with the template
/// (cloud-run 3.1).
pub(crate) fn revision_name(service: &str, generation: u32, template: &str) -> String {
    format!("{service}-{generation:05}-{}", letters(hash(&["revision", service, template]), 3))
}

/// The host names of a service: the deterministic one, where its first label fits, then the one
/// with the hash (cloud-run 3.1). The hash is one per project, so that a suffix learnt from one
/// service fits its neighbours (apigee 12 relies on it).
pub(crate) fn run_hosts(service: &str, project_number: u64, region: &str) -> Vec<String> {
    let mut hosts = Vec::with_capacity(2);
    let label = format!("{service}-{project_number}");
    if label.len() <= 63 {
        hosts.push(format!("{label}.{region}.run.app"));
    }
    let suffix = format!(
        "-{}-{}",
        letters(hash(&["run.app", &project_number.to_string()]), 10),
        region_code(region)
    );
    let kept = service.len().min(63 - suffix.len());
    hosts.push(format!("{}{suffix}.a.run.app", service[..kept].trim_end_matches('-')));
    hosts
}

/// The two letters of a region in `a.run.app` names (unconfirmed list; unknown regions get letters
/// of their own).
fn region_code(region: &str) -> String {
    const CODES: &[(&str, &str)] = &[
        ("us-central1", "uc"),
        ("us-east1", "ue"),
        ("us-east4", "uk"),
        ("us-east5", "ul"),
        ("us-south1", "vp"),
        ("us-west1", "uw"),
        ("us-west2", "wl"),
        ("us-west3", "wm"),
        ("us-west4", "wn"),
        ("europe-west1", "ew"),
        ("europe-west2", "nw"),
        ("europe-west3", "ey"),
        ("europe-west4", "ez"),
        ("europe-west6", "oa"),
        ("europe-west8", "oc"),
        ("europe-west9", "od"),
        ("europe-west10", "oe"),
        ("europe-west12", "og"),
        ("europe-north1", "lz"),
        ("europe-central2", "lm"),
        ("europe-southwest1", "no"),
        ("asia-northeast1", "an"),
        ("asia-northeast2", "dt"),
        ("asia-northeast3", "du"),
        ("asia-east1", "de"),
        ("asia-east2", "df"),
        ("asia-southeast1", "as"),
        ("asia-southeast2", "et"),
        ("asia-south1", "el"),
        ("asia-south2", "em"),
        ("australia-southeast1", "ts"),
        ("australia-southeast2", "km"),
        ("northamerica-northeast1", "nn"),
        ("northamerica-northeast2", "pd"),
        ("southamerica-east1", "rj"),
        ("southamerica-west1", "tl"),
        ("me-west1", "zf"),
        ("me-central1", "ww"),
    ];
    match CODES.iter().find(|(name, _)| *name == region) {
        Some((_, code)) => (*code).to_owned(),
        None => letters(hash(&["region", region]), 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_numbers_have_google_s_shape_and_never_change() {
        // These values are part of the format: people write them into their bundles.
        assert_eq!(project_number("ilb-project").to_string().len(), 12);
        assert_eq!(project_number("ilb-project"), project_number("ilb-project"));
        assert_ne!(project_number("ilb-project"), project_number("ilb-projecu"));
        let id = unique_id("a@p.iam.gserviceaccount.com");
        assert_eq!(id.len(), 21);
        assert!(id.starts_with('1') && id.bytes().all(|b| b.is_ascii_digit()));
    }

    #[test]
    fn the_low_half_of_a_connection_id_is_the_address() {
        let id = psc_connection_id(&NetworkId::new("p", "n"), Ipv4Addr::new(10, 0, 60, 100));
        assert_eq!(id as u32, 0x0a00_3c64);
        assert_ne!(id >> 32, psc_connection_id(&NetworkId::new("p", "m"), [0; 4].into()) >> 32);
    }

    #[test]
    fn hosts_are_the_deterministic_one_and_the_hash_one() {
        let hosts = run_hosts("orders", 123_456_789_012, "europe-west1");
        assert_eq!(hosts[0], "orders-123456789012.europe-west1.run.app");
        assert!(hosts[1].starts_with("orders-") && hosts[1].ends_with("-ew.a.run.app"));
        assert_eq!(hosts[1].len(), "orders-abcdefghij-ew.a.run.app".len());
        let other = run_hosts("login", 123_456_789_012, "europe-west1");
        assert_eq!(hosts[1].trim_start_matches("orders"), other[1].trim_start_matches("login"));
        let long = "a".repeat(49);
        let hosts = run_hosts(&long, 123_456_789_012, "europe-west1");
        assert!(hosts.iter().all(|host| host.split('.').next().is_some_and(|l| l.len() <= 63)));
    }

    #[test]
    fn a_revision_is_named_after_its_service_and_template() {
        let name = revision_name("orders", 1, "t");
        assert!(name.starts_with("orders-00001-") && name.len() == "orders-00001-abc".len());
        assert_ne!(name, revision_name("orders", 1, "u"));
    }
}
