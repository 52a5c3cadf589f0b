//! The metrics, as a scraper reads them.

mod common;

use common::support::{self, run};
use common::*;
use http_proxy::ServerOptions;
use slice::load_balancer::Protocol;

#[test]
fn requests_are_counted_by_forwarding_rule_url_map_rule_backend_and_status() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only recorder of this process");
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let slice = slice(
            &[("a", to("a")), ("empty", to("empty"))],
            ["a", "empty"].map(|name| service(name, Protocol::Http, name)).to_vec(),
            vec![group("a", &[declared(1)]), group("empty", &[])],
        );
        let started = start("metrics", slice, &[(1, backend.address)]);
        let at = address(&started);
        for (host, path) in [("a", "/known/1"), ("a", "/known/2"), ("a", "/"), ("empty", "/")] {
            get(at, host, path).await;
        }
        drop(started); // everything is written
    });
    let text = handle.render();
    let value = |name: &str, labels: &[&str]| -> Vec<f64> {
        let prefix = format!("loadbalancing_googleapis_com_https_internal_{name}{{");
        text.lines()
            .filter(|line| line.starts_with(&prefix))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number"))
            .collect()
    };
    let known = ["forwarding_rule_name=\"ilb\"", "matched_url_path_rule=\"/known/*\""];
    assert_eq!(value("request_count", &known), [2.0], "{text}");
    let plain = ["matched_url_path_rule=\"UNMATCHED\"", "backend_target_name=\"a\""];
    assert_eq!(value("request_count", &plain), [1.0], "{text}");
    let refused = [
        "backend_target_name=\"empty\"",
        "backend_name=\"empty\"",
        "response_code=\"503\"",
        "response_code_class=\"5xx\"",
    ];
    assert_eq!(value("request_count", &refused), [1.0], "{text}");
    // No backend was asked, so there is no latency of one.
    assert_eq!(value("total_latencies_count", &refused), [1.0], "{text}");
    assert_eq!(value("backend_latencies_count", &known), [2.0], "{text}");
    assert!(value("backend_latencies_count", &refused).iter().all(|count| *count == 0.0), "{text}");
    assert!(value("request_bytes_count", &known)[0] > 0.0, "{text}");
    assert!(value("response_bytes_count", &known)[0] > 0.0, "{text}");
    assert!(
        text.contains("postern_refusals_total{reason=\"NETWORK_ENDPOINT_GROUP_EMPTY\"} 1"),
        "{text}"
    );
}
