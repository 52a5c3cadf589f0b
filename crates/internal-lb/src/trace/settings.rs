//! OpenTelemetry's environment variables, as far as they concern spans sent over OTLP/HTTP.

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue};

/// Where spans go, and which requests have any.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Host and port of the collector.
    pub authority: Authority,
    /// Where it takes traces.
    pub path: PathAndQuery,
    /// Fields of every export.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `service.name`.
    pub service: String,
    /// What decides.
    pub sampler: Sampler,
}

/// Which requests have spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Does the client's own decision count, where it has one?
    pub parent_based: bool,
    /// Of the others, this share, 0.0 to 1.0.
    pub ratio: f64,
}

impl Sampler {
    /// Is the request among them? `said` is the client's decision. A share of traces is told by
    /// the lower half of their ids, so that every program decides alike.
    pub fn samples(&self, said: Option<bool>, trace: u128) -> bool {
        if let Some(sampled) = said.filter(|_| self.parent_based) {
            return sampled;
        }
        match self.ratio {
            ..=0.0 => false,
            1.0.. => true,
            ratio => ((trace as u64) >> 11) as f64 / ((1u64 << 53) as f64) < ratio,
        }
    }
}

impl Settings {
    /// Reads the variables. None: no spans are wanted.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Settings>, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
        {
            return Ok(None);
        }
        let (name, text) = match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            Some(whole) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole),
            None => match variable("OTEL_EXPORTER_OTLP_ENDPOINT") {
                Some(base) => (
                    "OTEL_EXPORTER_OTLP_ENDPOINT",
                    format!("{}/v1/traces", base.trim_end_matches('/')),
                ),
                None => return Ok(None),
            },
        };
        let wrong = || format!("{name}: `{text}` is no http:// URL (a collector's port 4318)");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let uri = uri.into_parts();
        let (Some(authority), true) = (uri.authority, uri.scheme == Some(Scheme::HTTP)) else {
            return Err(wrong());
        };
        let mut headers = Vec::new();
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            let list = variable(name).unwrap_or_default();
            for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let field = (
                    HeaderName::try_from(key.trim().to_ascii_lowercase()),
                    HeaderValue::try_from(value.trim()),
                );
                let (Ok(key), Ok(value)) = field else {
                    return Err(format!("{name}: `{}` is no header", key.trim()));
                };
                headers.push((key, value));
            }
        }
        Ok(Some(Settings {
            authority,
            path: uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
            headers,
            service: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "internal-lb".to_owned()),
            sampler: sampler(&variable)?,
        }))
    }
}

fn sampler(variable: &impl Fn(&str) -> Option<String>) -> Result<Sampler, String> {
    let name = variable("OTEL_TRACES_SAMPLER");
    let argument = match variable("OTEL_TRACES_SAMPLER_ARG") {
        None => 1.0,
        Some(text) => match text.trim().parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => return Err(format!("OTEL_TRACES_SAMPLER_ARG: `{text}` is not 0.0 to 1.0")),
        },
    };
    let name = name.as_deref().unwrap_or("parentbased_traceidratio");
    let (parent_based, rest) = match name.strip_prefix("parentbased_") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let ratio = match rest {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => argument,
        _ => return Err(format!("OTEL_TRACES_SAMPLER: `{name}` is not known")),
    };
    Ok(Sampler { parent_based, ratio })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        Settings::read(|name| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn the_standard_variables_say_where_spans_go() {
        assert_eq!(read(&[]), Ok(None));
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/");
        let settings = read(&[base]).expect("settings").expect("an endpoint");
        assert_eq!(
            (settings.authority.as_str(), settings.path.as_str()),
            ("localhost:4318", "/v1/traces")
        );
        assert_eq!(settings.sampler, Sampler { parent_based: true, ratio: 1.0 });
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x?y");
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "A=b, c = d");
        let settings = read(&[base, whole, headers]).expect("settings").expect("an endpoint");
        assert_eq!((settings.authority.as_str(), settings.path.as_str()), ("c:1", "/x?y"));
        let headers: Vec<_> =
            settings.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(headers, [("a", &b"b"[..]), ("c", b"d")]);
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(read(&[base, off]), Ok(None));
        }
        for (wrong, named) in [
            (("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (("OTEL_TRACES_SAMPLER_ARG", "2"), "OTEL_TRACES_SAMPLER_ARG"),
            (("OTEL_TRACES_SAMPLER", "jaeger_remote"), "OTEL_TRACES_SAMPLER"),
            (("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"), "OTEL_EXPORTER_OTLP_HEADERS"),
        ] {
            assert!(read(&[wrong, base]).expect_err("an error").starts_with(named));
        }
    }

    #[test]
    fn the_clients_decision_counts_and_else_a_share() {
        let ids = |n: u64| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 7 << 64;
        for (name, argument, said, expected) in [
            ("parentbased_traceidratio", "0.25", Some(true), 1000..=1000),
            ("parentbased_traceidratio", "0.25", Some(false), 0..=0),
            ("parentbased_traceidratio", "0.25", None, 200..=300),
            ("traceidratio", "0.25", Some(true), 200..=300),
            ("always_on", "0.25", Some(false), 1000..=1000),
            ("parentbased_always_off", "1", None, 0..=0),
        ] {
            let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            let sampler = sampler(&|wanted: &str| {
                variables.iter().find(|(found, _)| *found == wanted).map(|(_, v)| v.to_string())
            });
            let sampler = sampler.expect("a sampler");
            let sampled = (0..1000).filter(|n| sampler.samples(said, ids(*n))).count();
            assert!(expected.contains(&sampled), "{name} {said:?}: {sampled}");
        }
    }
}
