//! How far regions are from each other: a geolocation policy applies the nearest match where no
//! item names the client's own region.
//!
//! Which region Cloud DNS takes for the nearest is not documented; here it is the distance on the
//! globe between the places that Google names for its regions (unconfirmed).

/// Latitude and longitude of Google's regions, in degrees.
const REGIONS: &[(&str, f64, f64)] = &[
    ("africa-south1", -26.2, 28.0),
    ("asia-east1", 24.1, 120.5),
    ("asia-east2", 22.3, 114.2),
    ("asia-northeast1", 35.7, 139.7),
    ("asia-northeast2", 34.7, 135.5),
    ("asia-northeast3", 37.6, 127.0),
    ("asia-south1", 19.1, 72.9),
    ("asia-south2", 28.7, 77.1),
    ("asia-southeast1", 1.35, 103.8),
    ("asia-southeast2", -6.2, 106.8),
    ("asia-southeast3", 13.7, 100.5),
    ("australia-southeast1", -33.9, 151.2),
    ("australia-southeast2", -37.8, 145.0),
    ("europe-central2", 52.2, 21.0),
    ("europe-north1", 60.6, 27.1),
    ("europe-north2", 59.3, 18.1),
    ("europe-southwest1", 40.4, -3.7),
    ("europe-west1", 50.4, 3.8),
    ("europe-west10", 52.5, 13.4),
    ("europe-west12", 45.1, 7.7),
    ("europe-west2", 51.5, -0.1),
    ("europe-west3", 50.1, 8.7),
    ("europe-west4", 53.4, 6.8),
    ("europe-west6", 47.4, 8.5),
    ("europe-west8", 45.5, 9.2),
    ("europe-west9", 48.9, 2.4),
    ("me-central1", 25.3, 51.5),
    ("me-central2", 26.4, 50.1),
    ("me-west1", 32.1, 34.8),
    ("northamerica-northeast1", 45.5, -73.6),
    ("northamerica-northeast2", 43.7, -79.4),
    ("northamerica-south1", 20.6, -100.4),
    ("southamerica-east1", -23.5, -46.6),
    ("southamerica-west1", -33.4, -70.7),
    ("us-central1", 41.3, -95.9),
    ("us-east1", 33.2, -80.0),
    ("us-east4", 39.0, -77.5),
    ("us-east5", 40.0, -83.0),
    ("us-south1", 32.8, -96.8),
    ("us-west1", 45.6, -121.2),
    ("us-west2", 34.1, -118.2),
    ("us-west3", 40.8, -111.9),
    ("us-west4", 36.2, -115.1),
];

/// A measure of the distance between two regions that grows with it; 0 for a region itself, the
/// largest where one of them is unknown.
pub(crate) fn distance(from: &str, to: &str) -> f64 {
    if from == to {
        return 0.0;
    }
    let place = |name: &str| {
        REGIONS
            .iter()
            .find(|(region, ..)| *region == name)
            .map(|(_, latitude, longitude)| (latitude.to_radians(), longitude.to_radians()))
    };
    let (Some(from), Some(to)) = (place(from), place(to)) else { return f64::INFINITY };
    // The haversine of the angle between them (the square of half the chord).
    let half = |a: f64, b: f64| ((a - b) / 2.0).sin().powi(2);
    half(from.0, to.0) + from.0.cos() * to.0.cos() * half(from.1, to.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_near_and_the_unknown_is_farthest() {
        let nearer = |from: &str, near: &str, far: &str| {
            assert!(distance(from, near) < distance(from, far), "{from}: {near} and not {far}");
        };
        nearer("europe-west1", "europe-west1", "europe-west9");
        nearer("europe-west1", "europe-west4", "us-east1");
        nearer("us-west1", "us-west3", "us-east4");
        nearer("asia-northeast1", "us-west1", "europe-west1");
        nearer("australia-southeast1", "asia-southeast1", "us-west2");
        nearer("europe-west1", "asia-east1", "moon-north1");
        assert_eq!(distance("moon-north1", "moon-north1"), 0.0);
    }
}
