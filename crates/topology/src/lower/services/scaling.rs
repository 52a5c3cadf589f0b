//! Instance counts, concurrency and timeouts (cloud-run 1.3, 2.1).

use super::Template;
use crate::decode::{At, Number};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Count, RevisionTemplate, ScalingMode, Service};
use slice::run;

/// Instances at the most where nothing is written (2.1).
const MAX_INSTANCES_DEFAULT: u32 = 100;
/// Request timeout in seconds (1.3).
const TIMEOUT_DEFAULT: u32 = 300;
const TIMEOUT_MAX: u32 = 3600;
/// The share at which instances are kept busy (2.1).
const UTILIZATION_DEFAULT: f64 = 0.6;

fn error(at: Mark, what: String, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceScaling, at, what, fix);
}

fn count(count: &Count) -> u32 {
    u32::try_from(count.value.0).unwrap_or(0)
}

fn bounds(least: Option<&Count>, most: Option<&Count>, findings: &mut Findings) {
    if let (Some(least), Some(most)) = (least, most)
        && most.value.0 > 0
        && least.value.0 > most.value.0
    {
        error(
            least.at,
            format!(
                "minInstanceCount {} is more than maxInstanceCount {}",
                least.value.0, most.value.0
            ),
            "lower the minimum or raise the maximum",
            findings,
        );
    }
}

/// Instance counts of the whole service. A maximum of 0 means: none is set.
pub(super) fn of_service(raw: &Service, findings: &mut Findings) -> run::Scaling {
    let idle = raw.postern.as_ref().and_then(|postern| postern.idle_seconds);
    let idle_seconds = idle.and_then(|seconds| u32::try_from(seconds.0).ok());
    let Some(scaling) = &raw.scaling else {
        return run::Scaling { idle_seconds, ..run::Scaling::default() };
    };
    let (least, most) = (scaling.min_instance_count.as_ref(), scaling.max_instance_count.as_ref());
    bounds(least, most, findings);
    let manual = scaling.scaling_mode == Some(ScalingMode::Manual);
    let instances = scaling.manual_instance_count.as_ref();
    match (manual, instances) {
        (true, None) if !scaling.faulty => error(
            scaling.at,
            "scalingMode is MANUAL and `manualInstanceCount` is missing".into(),
            "add `manualInstanceCount`",
            findings,
        ),
        (false, Some(instances)) => findings.warning(
            Code::NoEffect,
            instances.at,
            "`manualInstanceCount` counts only with scalingMode MANUAL",
            "write scalingMode: MANUAL, or remove it",
        ),
        _ => {}
    }
    run::Scaling {
        min_instances: least.map_or(0, count),
        max_instances: most.map(count).filter(|most| *most > 0),
        manual_instances: instances.filter(|_| manual).map(count),
        idle_seconds,
    }
}

/// Fewest and most instances of a revision, and how busy they are kept.
pub(super) fn of_revision(
    template: &Template<'_>,
    revision: &mut run::Revision,
    findings: &mut Findings,
) {
    let scaling = template.raw.scaling.as_ref();
    let least = scaling.and_then(|scaling| scaling.min_instance_count.as_ref());
    let most = scaling.and_then(|scaling| scaling.max_instance_count.as_ref());
    bounds(least, most, findings);
    let max = most.map(count).filter(|most| *most > 0).unwrap_or(MAX_INSTANCES_DEFAULT);
    revision.max_instances = max;
    revision.min_instances = least.map_or(0, count).min(max);
    let cpu = scaling.and_then(|scaling| scaling.cpu_utilization.as_ref());
    let concurrency = scaling.and_then(|scaling| scaling.concurrency_utilization.as_ref());
    for written in [cpu, concurrency].into_iter().flatten() {
        template.needs_beta(written.at, findings);
    }
    revision.cpu_utilization = utilization(cpu, findings);
    revision.concurrency_utilization = utilization(concurrency, findings);
    if let Some(cpu) = cpu
        && revision.cpu_utilization == 0.0
        && revision.concurrency_utilization == 0.0
    {
        error(
            cpu.at,
            "cpuUtilization and concurrencyUtilization are both switched off".into(),
            "give one of the two a share from 0.1 to 0.95",
            findings,
        );
    }
}

/// 0.1 to 0.95, or 0.0 to switch the signal off (2.1).
fn utilization(written: Option<&At<Number>>, findings: &mut Findings) -> f64 {
    match written.map(|written| (written.at, written.value.0)) {
        None => UTILIZATION_DEFAULT,
        Some((_, value)) if value == 0.0 || (0.1..=0.95).contains(&value) => value,
        Some((at, value)) => {
            let what = format!("a utilization of {value} is out of bounds");
            error(at, what, "write a share from 0.1 to 0.95, or 0.0 for none", findings);
            UTILIZATION_DEFAULT
        }
    }
}

/// Requests at once per instance: 1 to 1000, 80 by default, 1 below one CPU (2.1).
pub(super) fn concurrency(
    template: &RevisionTemplate,
    below_one_cpu: bool,
    findings: &mut Findings,
) -> u32 {
    match template.max_instance_request_concurrency.as_ref().filter(|count| count.value.0 != 0) {
        None if below_one_cpu => 1,
        None => 80,
        Some(count) if (1..=1000).contains(&count.value.0) => {
            if below_one_cpu && count.value.0 > 1 {
                error(
                    count.at,
                    "with less than one CPU the concurrency must be 1".into(),
                    "write 1, or raise the CPU limit to 1",
                    findings,
                );
            }
            u32::try_from(count.value.0).unwrap_or(80)
        }
        Some(count) => {
            error(
                count.at,
                format!(
                    "a concurrency of {} is out of bounds; an instance takes 1 to 1000 requests at once",
                    count.value.0
                ),
                "write a number from 1 to 1000",
                findings,
            );
            80
        }
    }
}

/// `300s`, at most an hour (1.3).
pub(super) fn timeout(template: &RevisionTemplate, findings: &mut Findings) -> u32 {
    let Some(text) = &template.timeout else { return TIMEOUT_DEFAULT };
    let digits = |number: &&str| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits(whole) && digits(fraction) && fraction.len() <= 9
    };
    let seconds = text.strip_suffix('s').filter(digits);
    match seconds.and_then(|number| number.parse::<f64>().ok()) {
        // Fractions round up: a request never gets less than what is written.
        Some(seconds) if seconds > 0.0 && seconds <= f64::from(TIMEOUT_MAX) => {
            seconds.ceil() as u32
        }
        Some(_) => {
            error(
                text.at,
                format!(
                    "a timeout of {} is out of bounds; a request takes at most {TIMEOUT_MAX}s",
                    text.value
                ),
                "write a timeout from 1s to 3600s",
                findings,
            );
            TIMEOUT_DEFAULT
        }
        None => {
            findings.error(
                Code::InvalidValue,
                text.at,
                format!("`{}` is no duration", text.value),
                "write seconds with an `s`, such as \"300s\"",
            );
            TIMEOUT_DEFAULT
        }
    }
}
