//! `logConfig` of a backend service (private-connectivity 2.9), compiled: which requests are
//! logged, and what of them.

use http::HeaderName;
use slice::load_balancer::{LOG_OPTIONAL_FIELDS, LogConfig};

/// What is logged of a backend service's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Of 2^32 requests so many; more than that: all.
    share: u64,
    /// See [`LOG_OPTIONAL_FIELDS`].
    pub tls_protocol: bool,
    /// See [`LOG_OPTIONAL_FIELDS`].
    pub tls_cipher: bool,
    /// Names.
    pub request_headers: Vec<HeaderName>,
    /// Names.
    pub response_headers: Vec<HeaderName>,
}

impl Logging {
    /// Without a `logConfig` everything is logged: a local tool is for looking.
    ///
    /// # Errors
    /// A field or a header that is none.
    pub fn compile(config: Option<&LogConfig>) -> Result<Logging, String> {
        let Some(config) = config else {
            return Ok(Logging {
                share: u64::MAX,
                tls_protocol: true,
                tls_cipher: true,
                request_headers: Vec::new(),
                response_headers: Vec::new(),
            });
        };
        let known = |name: &&String| *name == "*" || LOG_OPTIONAL_FIELDS.contains(&name.as_str());
        if let Some(unknown) = config.optional_fields.iter().find(|name| !known(name)) {
            let all = LOG_OPTIONAL_FIELDS.join(", ");
            return Err(format!("logConfig.optionalFields: `{unknown}` is none of {all}"));
        }
        let has = |field: &str| config.optional_fields.iter().any(|one| one == "*" || one == field);
        let names = |names: &[String]| {
            let parse = |name: &String| {
                HeaderName::try_from(name.to_ascii_lowercase())
                    .map_err(|_| format!("logConfig: `{name}` is no header name"))
            };
            names.iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        Ok(Logging {
            share: match config.enable {
                false => 0,
                true if config.sample_rate >= 1.0 => u64::MAX,
                true => (config.sample_rate.max(0.0) * f64::from(u32::MAX)) as u64,
            },
            tls_protocol: has(LOG_OPTIONAL_FIELDS[0]),
            tls_cipher: has(LOG_OPTIONAL_FIELDS[1]),
            request_headers: names(&config.request_headers)?,
            response_headers: names(&config.response_headers)?,
        })
    }

    /// Is a request logged? Throws only where not all or none are.
    pub fn samples(&self, roll: impl FnOnce() -> u64) -> bool {
        match self.share {
            0 => false,
            u64::MAX => true,
            share => roll() >> 32 < share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LogConfig {
        LogConfig {
            enable: true,
            sample_rate: 1.0,
            optional_fields: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    #[test]
    fn the_rate_is_a_share_of_the_requests() {
        let share = |config: &LogConfig| {
            let logging = Logging::compile(Some(config)).expect("a log configuration");
            (0..1000).filter(|n| logging.samples(|| n << 32 | n << 54)).count()
        };
        assert_eq!(share(&config()), 1000);
        assert_eq!(share(&LogConfig { enable: false, ..config() }), 0);
        assert_eq!(share(&LogConfig { sample_rate: 0.0, ..config() }), 0);
        let quarter = share(&LogConfig { sample_rate: 0.25, ..config() });
        assert!((240..260).contains(&quarter), "{quarter}");
    }

    #[test]
    fn optional_fields_are_named_or_all() {
        let of = |fields: &[&str]| {
            let optional_fields = fields.iter().map(|field| field.to_string()).collect();
            Logging::compile(Some(&LogConfig { optional_fields, ..config() }))
                .map(|logging| (logging.tls_protocol, logging.tls_cipher))
        };
        assert_eq!(of(&[]), Ok((false, false)));
        assert_eq!(of(&["tls.cipher"]), Ok((false, true)));
        assert_eq!(of(&["*"]), Ok((true, true)));
        assert!(of(&["cache.id"]).expect_err("an error").contains("`cache.id`"));
        let odd = LogConfig { request_headers: vec!["a b".to_owned()], ..config() };
        assert!(Logging::compile(Some(&odd)).is_err());
    }
}
