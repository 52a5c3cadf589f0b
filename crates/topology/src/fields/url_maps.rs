//! URL maps (private-connectivity 2.2 to 2.6).

use crate::decode::{At, Int, Number, Text, record, words};

record! {
    /// A URL map (2.2).
    UrlMap {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt default_service: Text = "defaultService";
        opt default_url_redirect: UrlRedirect = "defaultUrlRedirect";
        opt default_route_action: RouteAction = "defaultRouteAction";
        opt header_action: HeaderAction = "headerAction";
        def host_rules: Vec<HostRule> = "hostRules";
        def path_matchers: Vec<PathMatcher> = "pathMatchers";
        def tests: Vec<UrlMapTest> = "tests";
        opt postern: UrlMapPostern = "postern";
    }
    descriptive ["description"]
    refused [
        "defaultCustomErrorResponsePolicy": "internal load balancers do not support it",
    ]
    output_only ["id", "kind", "creationTimestamp", "fingerprint", "status"]
}

record! {
    /// Ours: a seed makes what a URL map leaves to chance the same in every run.
    UrlMapPostern {
        opt seed: Int<0, 9007199254740991> = "seed";
    }
}

record! {
    /// Which hosts lead to which path matcher (2.3).
    HostRule {
        req hosts: At<Vec<Text>> = "hosts";
        req path_matcher: Text = "pathMatcher";
    }
    descriptive ["description"]
}

record! {
    /// Path rules (2.4) or route rules (2.5), with a default.
    PathMatcher {
        req name: Text = "name";
        opt default_service: Text = "defaultService";
        opt default_url_redirect: UrlRedirect = "defaultUrlRedirect";
        opt default_route_action: RouteAction = "defaultRouteAction";
        opt header_action: HeaderAction = "headerAction";
        def path_rules: Vec<PathRule> = "pathRules";
        def route_rules: Vec<RouteRule> = "routeRules";
    }
    descriptive ["description"]
    refused [
        "defaultCustomErrorResponsePolicy": "internal load balancers do not support it",
    ]
}

record! {
    /// Which paths lead where (2.4).
    PathRule {
        req paths: At<Vec<Text>> = "paths";
        opt service: Text = "service";
        opt url_redirect: UrlRedirect = "urlRedirect";
        opt route_action: RouteAction = "routeAction";
    }
    refused [
        "customErrorResponsePolicy": "internal load balancers do not support it",
    ]
}

record! {
    /// Which requests lead where (2.5).
    RouteRule {
        req priority: At<Int<0, 2147483647>> = "priority";
        opt description: Text = "description";
        req match_rules: At<Vec<MatchRule>> = "matchRules";
        opt service: Text = "service";
        opt url_redirect: UrlRedirect = "urlRedirect";
        opt route_action: RouteAction = "routeAction";
        opt header_action: HeaderAction = "headerAction";
    }
    refused [
        "customErrorResponsePolicy": "internal load balancers do not support it",
        "httpFilterConfigs": "only service meshes have HTTP filters",
        "httpFilterMetadata": "only service meshes have HTTP filters",
    ]
}

record! {
    /// What a request must have: all of it (2.5).
    MatchRule {
        opt prefix_match: Text = "prefixMatch";
        opt full_path_match: Text = "fullPathMatch";
        opt regex_match: Text = "regexMatch";
        opt path_template_match: Text = "pathTemplateMatch";
        opt ignore_case: At<bool> = "ignoreCase";
        def header_matches: Vec<HeaderMatch> = "headerMatches";
        def query_parameter_matches: Vec<QueryParameterMatch> = "queryParameterMatches";
    }
    refused [
        "metadataFilters": "only service meshes have xDS metadata",
    ]
}

record! {
    /// What a header must be (2.5).
    HeaderMatch {
        req header_name: Text = "headerName";
        opt exact_match: Text = "exactMatch";
        opt prefix_match: Text = "prefixMatch";
        opt suffix_match: Text = "suffixMatch";
        opt regex_match: Text = "regexMatch";
        opt present_match: At<bool> = "presentMatch";
        opt range_match: At<RangeMatch> = "rangeMatch";
        opt invert_match: bool = "invertMatch";
    }
}

record! {
    /// A range of whole numbers: the end is not in it.
    RangeMatch {
        opt range_start: Int<-9223372036854775808, 9223372036854775807> = "rangeStart";
        opt range_end: Int<-9223372036854775808, 9223372036854775807> = "rangeEnd";
    }
}

record! {
    /// What a query parameter must be (2.5).
    QueryParameterMatch {
        req name: Text = "name";
        opt exact_match: Text = "exactMatch";
        opt regex_match: Text = "regexMatch";
        opt present_match: At<bool> = "presentMatch";
    }
}

words! {
    /// The status of a redirect.
    RedirectResponseCode {
        MovedPermanently = "MOVED_PERMANENTLY_DEFAULT";
        Found = "FOUND";
        SeeOther = "SEE_OTHER";
        TemporaryRedirect = "TEMPORARY_REDIRECT";
        PermanentRedirect = "PERMANENT_REDIRECT";
    }
}

record! {
    /// A redirect made by the load balancer (2.6).
    UrlRedirect {
        opt https_redirect: At<bool> = "httpsRedirect";
        opt host_redirect: Text = "hostRedirect";
        opt path_redirect: Text = "pathRedirect";
        opt prefix_redirect: Text = "prefixRedirect";
        opt strip_query: bool = "stripQuery";
        opt redirect_response_code: RedirectResponseCode = "redirectResponseCode";
    }
}

record! {
    /// What happens to a request on its way (2.6).
    RouteAction {
        opt url_rewrite: UrlRewrite = "urlRewrite";
        opt timeout: Duration = "timeout";
        opt retry_policy: RetryPolicy = "retryPolicy";
        opt request_mirror_policy: RequestMirrorPolicy = "requestMirrorPolicy";
        opt cors_policy: CorsPolicy = "corsPolicy";
        opt fault_injection_policy: FaultInjectionPolicy = "faultInjectionPolicy";
        def weighted_backend_services: Vec<WeightedBackendService> = "weightedBackendServices";
    }
    refused [
        "maxStreamDuration": "only service meshes support it",
        "cachePolicy": "only global external load balancers have a cache",
        "dynamicCompressionPolicy": "only global external load balancers support it",
        "imageOptimizationPolicy": "only global external load balancers support it",
    ]
}

record! {
    /// A span of time.
    Duration {
        opt seconds: Int<0, 315576000000> = "seconds";
        opt nanos: Int<0, 999999999> = "nanos";
    }
}

record! {
    /// Changes of host and path (2.6).
    UrlRewrite {
        opt host_rewrite: Text = "hostRewrite";
        opt path_prefix_rewrite: Text = "pathPrefixRewrite";
        opt path_template_rewrite: Text = "pathTemplateRewrite";
        opt regex_rewrite: RegexRewrite = "regexRewrite";
    }
}

record! {
    /// A pattern in the path, and what stands for it (2.6).
    RegexRewrite {
        req path_pattern: Text = "pathPattern";
        req path_substitution: Text = "pathSubstitution";
    }
}

words! {
    /// When a request is sent again.
    RetryCondition {
        ServerError = "5xx";
        GatewayError = "gateway-error";
        ConnectFailure = "connect-failure";
        Retriable4xx = "retriable-4xx";
        RefusedStream = "refused-stream";
        Cancelled = "cancelled";
        DeadlineExceeded = "deadline-exceeded";
        Internal = "internal";
        ResourceExhausted = "resource-exhausted";
        Unavailable = "unavailable";
    }
}

record! {
    /// When and how often a request is sent again (2.6).
    RetryPolicy {
        opt num_retries: Int<1, 2147483647> = "numRetries";
        opt per_try_timeout: Duration = "perTryTimeout";
        def retry_conditions: Vec<RetryCondition> = "retryConditions";
    }
}

record! {
    /// Where a copy of each request goes (2.6).
    RequestMirrorPolicy {
        req backend_service: Text = "backendService";
        opt mirror_percent: At<Number> = "mirrorPercent";
    }
}

record! {
    /// Cross-origin requests (2.6).
    CorsPolicy {
        def allow_origins: Vec<Text> = "allowOrigins";
        def allow_methods: Vec<Text> = "allowMethods";
        def allow_headers: Vec<Text> = "allowHeaders";
        def expose_headers: Vec<Text> = "exposeHeaders";
        opt max_age: Int<-1, 2147483647> = "maxAge";
        opt allow_credentials: bool = "allowCredentials";
        opt disabled: bool = "disabled";
    }
    refused [
        "allowOriginRegexes": "only service meshes support it",
    ]
}

record! {
    /// Delays and aborts on purpose (2.6).
    FaultInjectionPolicy {
        opt delay: FaultDelay = "delay";
        opt abort: FaultAbort = "abort";
    }
}

record! {
    /// A delay of some of the requests.
    FaultDelay {
        req fixed_delay: Duration = "fixedDelay";
        req percentage: At<Number> = "percentage";
    }
}

record! {
    /// An answer in place of some of the requests.
    FaultAbort {
        req http_status: Int<200, 599> = "httpStatus";
        req percentage: At<Number> = "percentage";
    }
}

record! {
    /// One of several backend services, each with its share (2.6).
    WeightedBackendService {
        req backend_service: Text = "backendService";
        opt weight: Int<0, 1000> = "weight";
        opt header_action: HeaderAction = "headerAction";
    }
}

record! {
    /// Headers that come and go (2.6).
    HeaderAction {
        def request_headers_to_add: Vec<HeaderOption> = "requestHeadersToAdd";
        def request_headers_to_remove: Vec<Text> = "requestHeadersToRemove";
        def response_headers_to_add: Vec<HeaderOption> = "responseHeadersToAdd";
        def response_headers_to_remove: Vec<Text> = "responseHeadersToRemove";
    }
}

record! {
    /// A header that comes.
    HeaderOption {
        req header_name: Text = "headerName";
        req header_value: Text = "headerValue";
        opt replace: bool = "replace";
    }
}

record! {
    /// A test of a URL map, run by `check` (2.6).
    UrlMapTest {
        opt description: Text = "description";
        req host: Text = "host";
        req path: Text = "path";
        def headers: Vec<UrlMapTestHeader> = "headers";
        opt service: Text = "service";
        opt expected_output_url: Text = "expectedOutputUrl";
        opt expected_redirect_response_code: At<Int<300, 308>> = "expectedRedirectResponseCode";
        opt postern: UrlMapTestPostern = "postern";
    }
}

record! {
    /// A header of a test's request.
    UrlMapTestHeader {
        req name: Text = "name";
        req value: Text = "value";
    }
}

record! {
    /// Ours: what else a URL map test expects.
    UrlMapTestPostern {
        opt cloud_run_service: Text = "cloudRunService";
    }
}
