//! URL maps in Envoy's words (envoy.config.route.v3), for what both can say.

use serde_json::{Value, json};
use slice::load_balancer::{
    Destination, HeaderAction, HeaderMatch, HeaderOption, HeaderPredicate, MatchRule, PathMatcher,
    PathPredicate, QueryParameterMatch, QueryPredicate, Route, RouteAction, Rules, UrlMap,
    UrlRewrite,
};

/// A RouteConfiguration: a virtual host for each host rule, with the routes of its path matcher.
pub fn route_configuration(map: &UrlMap) -> Value {
    let mut hosts: Vec<Value> = map
        .host_rules
        .iter()
        .enumerate()
        .map(|(n, rule)| {
            let matcher = map.path_matchers.iter().find(|one| one.name == rule.path_matcher);
            let matcher = matcher.expect("a path matcher");
            with_headers(
                json!({"name": format!("h{n}"), "domains": rule.hosts, "routes": routes(matcher)}),
                &matcher.header_action,
            )
        })
        .collect();
    if !map.host_rules.iter().any(|rule| rule.hosts.iter().any(|host| host == "*")) {
        let route = route(json!({"prefix": "/"}), &map.default, &Portion::Default);
        hosts.push(json!({"name": "default", "domains": ["*"], "routes": [route]}));
    }
    with_headers(json!({"virtual_hosts": hosts}), &map.header_action)
}

/// What `pathPrefixRewrite` and `prefixRedirect` replace.
enum Portion {
    /// Nothing: they prepend (2.6). Envoy replaces the `/` that its catch-all matches, so the slash
    /// between the two belongs to what is prepended.
    Default,
    /// What the rule's prefix matched: Envoy's own rule.
    Prefix,
    /// The whole path.
    Whole,
}

fn routes(matcher: &PathMatcher) -> Vec<Value> {
    let mut all = Vec::new();
    match &matcher.rules {
        Rules::PathRules(rules) => {
            // Envoy takes the first that matches: exact ones, then the longest prefix.
            let mut paths: Vec<(&str, &Route)> = rules
                .iter()
                .flat_map(|rule| rule.paths.iter().map(move |path| (path.as_str(), &rule.route)))
                .collect();
            paths.sort_by_key(|(path, _)| (path.ends_with('*'), usize::MAX - path.len()));
            for (path, to) in paths {
                all.push(match path.strip_suffix('*') {
                    Some(prefix) => route(json!({"prefix": prefix}), to, &Portion::Prefix),
                    None => route(json!({"path": path}), to, &Portion::Whole),
                });
            }
        }
        Rules::RouteRules(rules) => {
            for rule in rules {
                for one in &rule.match_rules {
                    let portion = match one.path {
                        PathPredicate::PrefixMatch(_) => Portion::Prefix,
                        _ => Portion::Whole,
                    };
                    let route = route(match_rule(one), &rule.route, &portion);
                    all.push(with_headers(route, &rule.header_action));
                }
            }
        }
    }
    all.push(route(json!({"prefix": "/"}), &matcher.default, &Portion::Default));
    all
}

fn match_rule(rule: &MatchRule) -> Value {
    let mut all = match &rule.path {
        PathPredicate::PrefixMatch(prefix) => json!({"prefix": prefix}),
        PathPredicate::FullPathMatch(path) => json!({"path": path}),
        PathPredicate::RegexMatch(pattern) => json!({"safe_regex": {"regex": pattern}}),
        PathPredicate::PathTemplateMatch(template) => json!({"path_match_policy": {
            "name": "envoy.path.match.uri_template.uri_template_matcher",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                "path_template": template,
            },
        }}),
    };
    if rule.ignore_case {
        all["case_sensitive"] = json!(false);
    }
    all["headers"] = rule.header_matches.iter().map(header_match).collect();
    all["query_parameters"] = rule.query_parameter_matches.iter().map(query_match).collect();
    all
}

fn header_match(rule: &HeaderMatch) -> Value {
    let mut all = match &rule.value {
        HeaderPredicate::ExactMatch(text) => json!({"string_match": {"exact": text}}),
        HeaderPredicate::PrefixMatch(text) => json!({"string_match": {"prefix": text}}),
        HeaderPredicate::SuffixMatch(text) => json!({"string_match": {"suffix": text}}),
        HeaderPredicate::RegexMatch(pattern) => {
            json!({"string_match": {"safe_regex": {"regex": pattern}}})
        }
        HeaderPredicate::PresentMatch(wanted) => json!({"present_match": wanted}),
        HeaderPredicate::RangeMatch { start, end } => {
            json!({"range_match": {"start": start, "end": end}})
        }
    };
    all["name"] = json!(rule.header_name);
    if rule.invert_match {
        all["invert_match"] = json!(true);
        // `invertMatch` negates (2.5), so a header that is not there fits; Envoy needs to be told.
        if !matches!(rule.value, HeaderPredicate::PresentMatch(_)) {
            all["treat_missing_header_as_empty"] = json!(true);
        }
    }
    all
}

fn query_match(rule: &QueryParameterMatch) -> Value {
    let mut all = match &rule.value {
        QueryPredicate::ExactMatch(text) => json!({"string_match": {"exact": text}}),
        QueryPredicate::RegexMatch(pattern) => {
            json!({"string_match": {"safe_regex": {"regex": pattern}}})
        }
        QueryPredicate::PresentMatch(wanted) => json!({"present_match": wanted}),
    };
    all["name"] = json!(rule.name);
    all
}

fn route(matching: Value, to: &Route, portion: &Portion) -> Value {
    let prefix = |with: &str| match portion {
        Portion::Default => format!("{}/", with.trim_end_matches('/')),
        Portion::Prefix | Portion::Whole => with.to_owned(),
    };
    let mut action = match &to.to {
        Destination::UrlRedirect(to) => {
            let code = match to.status {
                302 => "FOUND",
                303 => "SEE_OTHER",
                307 => "TEMPORARY_REDIRECT",
                308 => "PERMANENT_REDIRECT",
                _ => "MOVED_PERMANENTLY",
            };
            let mut action = json!({"response_code": code, "strip_query": to.strip_query});
            if to.https_redirect {
                action["https_redirect"] = json!(true);
            }
            if let Some(host) = &to.host_redirect {
                action["host_redirect"] = json!(host);
            }
            if let Some(path) = &to.path_redirect {
                action["path_redirect"] = json!(path);
            } else if let Some(with) = &to.prefix_redirect {
                // Beside a template Envoy refuses `prefix_rewrite`; over the whole path they are one.
                let name = if matches!(portion, Portion::Whole) {
                    "path_redirect"
                } else {
                    "prefix_rewrite"
                };
                action[name] = json!(prefix(with));
            }
            return json!({"match": matching, "redirect": action});
        }
        Destination::Service(link) => json!({"cluster": cluster(link.as_str())}),
        Destination::Weighted(all) => {
            let clusters: Vec<Value> = all
                .iter()
                .map(|one| {
                    let name = cluster(one.backend_service.as_str());
                    with_headers(json!({"name": name, "weight": one.weight}), &one.header_action)
                })
                .collect();
            json!({"weighted_clusters": {"clusters": clusters}})
        }
    };
    let rewrite = to.action.as_ref().and_then(|action| action.url_rewrite.as_ref());
    if let Some(rewrite) = rewrite {
        self::rewrite(&mut action, rewrite, portion, prefix);
    }
    let filters = filters(to.action.as_deref());
    json!({"match": matching, "route": action, "typed_per_filter_config": filters})
}

/// What stands in `routeAction` here and in filters there.
fn filters(action: Option<&RouteAction>) -> Value {
    let mut all = json!({});
    let cors = action.and_then(|action| action.cors_policy.as_ref());
    if let Some(policy) = cors.filter(|policy| !policy.disabled) {
        let exact = |origin: &String| json!({"exact": origin});
        let any = json!({"safe_regex": {"regex": ".*"}});
        let origin = |origin: &String| if origin == "*" { any.clone() } else { exact(origin) };
        let mut cors = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match":
                policy.allow_origins.iter().map(origin).collect::<Vec<Value>>(),
            "allow_methods": policy.allow_methods.join(","),
            "allow_headers": policy.allow_headers.join(","),
            "expose_headers": policy.expose_headers.join(","),
            "allow_credentials": policy.allow_credentials,
        });
        if let Some(seconds) = policy.max_age {
            cors["max_age"] = json!(seconds.to_string());
        }
        all["envoy.filters.http.cors"] = cors;
    }
    let faults = action.and_then(|action| action.fault_injection_policy.as_ref());
    if let Some(abort) = faults.and_then(|faults| faults.abort.as_ref()) {
        all["envoy.filters.http.fault"] = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": {
                "http_status": abort.http_status,
                "percentage": {"numerator": abort.percentage as u32},
            },
        });
    }
    all
}

fn rewrite(
    action: &mut Value,
    rewrite: &UrlRewrite,
    portion: &Portion,
    prefix: impl Fn(&str) -> String,
) {
    if let Some(host) = &rewrite.host_rewrite {
        action["host_rewrite_literal"] = json!(host);
    }
    if let Some(with) = &rewrite.path_prefix_rewrite {
        match portion {
            // Envoy refuses `prefix_rewrite` beside a template; over the whole path they are one.
            Portion::Whole => {
                action["regex_rewrite"] =
                    json!({"pattern": {"regex": "^.*$"}, "substitution": with});
            }
            _ => action["prefix_rewrite"] = json!(prefix(with)),
        }
    }
    if let Some(template) = &rewrite.path_template_rewrite {
        action["path_rewrite_policy"] = json!({
            "name": "envoy.path.rewrite.uri_template.uri_template_rewriter",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
                "path_template_rewrite": template,
            },
        });
    }
    if let Some(regex) = &rewrite.regex_rewrite {
        action["regex_rewrite"] = json!({
            "pattern": {"regex": regex.path_pattern}, "substitution": regex.path_substitution,
        });
    }
}

/// The cluster of a backend service: its short name.
pub fn cluster(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

/// A level of header changes; Envoy applies them innermost first, and removes before it adds, too.
/// Its overwriting replaces the first line of a name and leaves the others, where `replace` discards
/// all that was there (2.6): so what is replaced is removed, and then added.
fn with_headers(mut level: Value, action: &HeaderAction) -> Value {
    for (side, add, remove) in [
        ("request", &action.request_headers_to_add, &action.request_headers_to_remove),
        ("response", &action.response_headers_to_add, &action.response_headers_to_remove),
    ] {
        let mut removed = remove.clone();
        let mut added: Vec<&HeaderOption> = Vec::new();
        for option in add {
            if option.replace {
                added.retain(|one| !one.header_name.eq_ignore_ascii_case(&option.header_name));
                removed.push(option.header_name.clone());
            }
            added.push(option);
        }
        let append = |option: &&HeaderOption| {
            json!({
                "header": {"key": option.header_name, "value": option.header_value},
                "append_action": "APPEND_IF_EXISTS_OR_ADD",
            })
        };
        level[format!("{side}_headers_to_add")] = added.iter().map(append).collect();
        level[format!("{side}_headers_to_remove")] = json!(removed);
    }
    level
}
