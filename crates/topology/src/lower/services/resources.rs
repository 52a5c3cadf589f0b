//! CPU and memory of containers (cloud-run 1.1).

use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Container, ExecutionEnvironment, RevisionTemplate};
use slice::run;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Least and most CPU of a container, in thousandths.
const CPU_MIN: u32 = 80;
const CPU_MAX: u32 = 8000;
/// Most memory.
const MEMORY_MAX: u64 = 32 * GIB;
/// Least memory where CPU is always allocated, and in the second generation (unconfirmed).
const MEMORY_MIN: u64 = 512 * MIB;
/// Whole CPUs with the least and most memory that goes with them.
const WHOLE: &[(u32, u64, u64)] = &[
    (1000, 0, 4 * GIB),
    (2000, 0, 8 * GIB),
    (4000, 2 * GIB, 16 * GIB),
    (6000, 4 * GIB, 24 * GIB),
    (8000, 4 * GIB, 32 * GIB),
];

fn error(at: Mark, what: impl Into<String>, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceResources, at, what, fix);
}

/// What a container may use.
pub(super) fn of_container(container: &Container, findings: &mut Findings) -> run::Resources {
    let Some(raw) = &container.resources else { return run::Resources::default() };
    let mut resources = run::Resources {
        // Whoever writes `resources` without `cpuIdle` gets CPU always (3.4).
        cpu_idle: raw.cpu_idle.as_ref().is_some_and(|idle| idle.value),
        startup_cpu_boost: raw.startup_cpu_boost.unwrap_or(false),
        ..run::Resources::default()
    };
    if resources.startup_cpu_boost {
        findings.warning(
            Code::NotYetHonoured,
            container.at,
            "an instance that starts has the CPU of its limit and no more: there is no start-up boost in this release",
            "nothing is to be done if the start-up time is of no matter here",
        );
    }
    for (key, value) in raw.limits.iter().flat_map(|limits| &limits.0) {
        let text = &value.value.0;
        match key.as_str() {
            "cpu" => match value.value.millis() {
                Some(millis) if (CPU_MIN..=CPU_MAX).contains(&millis) => {
                    resources.cpu_millis = millis;
                }
                Some(_) => error(
                    value.at,
                    format!(
                        "a CPU limit of {text} is out of bounds; a container has 0.08 to 8 CPUs"
                    ),
                    "write \"1\", \"2\" or \"500m\"",
                    findings,
                ),
                None => findings.error(
                    Code::InvalidValue,
                    value.at,
                    format!("`{text}` is no number of CPUs, in steps of 0.001"),
                    "write \"1\", \"2\" or \"500m\"",
                ),
            },
            "memory" => match value.value.bytes() {
                Some(bytes) if bytes <= MEMORY_MAX => resources.memory_bytes = bytes,
                Some(_) => error(
                    value.at,
                    format!("a memory limit of {text} is out of bounds; at most 32Gi are given"),
                    "write \"512Mi\" or \"1Gi\"",
                    findings,
                ),
                None => findings.error(
                    Code::InvalidValue,
                    value.at,
                    format!("`{text}` is no amount of memory"),
                    "write \"512Mi\" or \"1Gi\"",
                ),
            },
            "nvidia.com/gpu" => findings.error(
                Code::NotYetSupported,
                key.at,
                "`nvidia.com/gpu` is not supported yet; instances have no GPU here",
                "remove it",
            ),
            other => findings.error(
                Code::FieldNotSupported,
                key.at,
                format!("`{other}` is no resource that can be limited"),
                "write cpu and memory",
            ),
        }
    }
    resources
}

/// Judges what the containers of one instance have together. True where it is less than one CPU.
pub(super) fn of_instance(
    template: &RevisionTemplate,
    containers: &[run::Container],
    findings: &mut Findings,
) -> bool {
    let cpu: u32 = containers.iter().map(|container| container.resources.cpu_millis).sum();
    let memory: u64 = containers.iter().map(|container| container.resources.memory_bytes).sum();
    let idle = containers.iter().all(|container| container.resources.cpu_idle);
    let limits = template.containers.iter().filter_map(|container| container.resources.as_ref());
    let at = limits.map(|resources| resources.at).next().unwrap_or(template.containers.at);
    let environment = template.execution_environment.as_ref();
    let second = environment.filter(|one| one.value == ExecutionEnvironment::Gen2);
    if cpu < 1000 {
        if !idle {
            error(
                at,
                format!("{} CPU cannot be always allocated; that takes at least 1", text(cpu)),
                "write cpuIdle: true (`run.googleapis.com/cpu-throttling: \"true\"`), or raise the CPU limit to 1",
                findings,
            );
        }
        if let Some(second) = second {
            error(
                second.at,
                format!(
                    "{} CPU needs the first generation; the second takes at least 1",
                    text(cpu)
                ),
                "remove the execution environment, or raise the CPU limit to 1",
                findings,
            );
        }
        let (most, needed) = if cpu < 500 { (512 * MIB, "0.5") } else { (GIB, "1") };
        if memory > most {
            error(
                at,
                format!("{} of memory need at least {needed} CPU", amount(memory)),
                "raise the CPU limit, or lower the memory limit",
                findings,
            );
        }
        return true;
    }
    if cpu > CPU_MAX || memory > MEMORY_MAX {
        error(
            at,
            format!(
                "the containers have {} CPUs and {} together; an instance has at most 8 and 32Gi",
                text(cpu),
                amount(memory)
            ),
            "lower their limits",
            findings,
        );
    } else if containers.len() == 1 {
        match WHOLE.iter().find(|(whole, ..)| *whole == cpu) {
            None => error(
                at,
                format!("{} CPUs cannot be given; above 1 there are 2, 4, 6 and 8", text(cpu)),
                "write 1, 2, 4, 6 or 8",
                findings,
            ),
            Some((_, least, most)) if memory < *least || memory > *most => error(
                at,
                format!(
                    "{} CPUs do not go with {} of memory; they take {} to {}",
                    text(cpu),
                    amount(memory),
                    if *least == 0 { "128Mi".to_owned() } else { amount(*least) },
                    amount(*most)
                ),
                "correct one of the two",
                findings,
            ),
            Some(_) => {}
        }
    }
    if memory < MEMORY_MIN && (!idle || second.is_some()) {
        error(
            at,
            format!(
                "{} of memory are too little for CPU that is always allocated, and for the second generation; both take at least 512Mi",
                amount(memory)
            ),
            "raise the memory limit to 512Mi",
            findings,
        );
    }
    false
}

/// Thousandths as people write them.
fn text(millis: u32) -> String {
    format!("{}", f64::from(millis) / 1000.0)
}

fn amount(bytes: u64) -> String {
    match bytes {
        whole if whole % GIB == 0 => format!("{}Gi", whole / GIB),
        whole if whole % MIB == 0 => format!("{}Mi", whole / MIB),
        other => format!("{other} bytes"),
    }
}
