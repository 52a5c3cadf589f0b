//! What instances cost, as metrics with Cloud Run's names (cloud-run 7.3).

use crate::revision::Revision;
use autoscaling::fleet::{Counts, Usage};
use std::time::Duration;

/// How often the concurrency of each instance is a sample of the distribution.
const SAMPLE: Duration = Duration::from_secs(60);

/// When samples were taken last.
#[derive(Debug, Default)]
pub struct Samples {
    last: Duration,
}

impl Samples {
    /// Shows the revisions that are at work at this moment.
    pub fn show<'a>(
        &mut self,
        now: Duration,
        revisions: impl Iterator<Item = (&'a Revision, Counts)>,
    ) {
        let sample = now.saturating_sub(self.last) >= SAMPLE;
        if sample {
            self.last = now;
        }
        for (revision, counts) in revisions {
            let labels = labels(revision);
            let pending = u32::try_from(counts.pending).unwrap_or(u32::MAX);
            metrics::gauge!("run_googleapis_com_pending_queue_pending_requests", &labels)
                .set(f64::from(pending));
            if !sample {
                continue;
            }
            let Usage { billable, most } = revision.usage();
            // Seconds in sum; a gauge, since counters of this library count whole numbers.
            metrics::gauge!("run_googleapis_com_container_billable_instance_time", &labels)
                .increment(billable.as_secs_f64());
            let concurrencies = metrics::histogram!(
                "run_googleapis_com_container_max_request_concurrencies",
                &labels
            );
            most.iter().for_each(|most| concurrencies.record(f64::from(*most)));
        }
    }
}

/// An instance took this long from its start to its first success of the startup probe.
pub fn started(revision: &Revision, took: Duration) {
    metrics::histogram!("run_googleapis_com_container_startup_latencies", &labels(revision))
        .record(took.as_secs_f64() * 1000.0);
}

fn labels(revision: &Revision) -> [(&'static str, String); 4] {
    let service = &revision.service;
    [
        ("project_id", service.project.clone()),
        ("location", service.region.clone()),
        ("service_name", service.name.clone()),
        ("revision_name", revision.name().to_owned()),
    ]
}
