//! The pages that Google's front ends answer with, byte for byte (cloud-run 4, 5.3). All are
//! [`CONTENT_TYPE`]; paths in them are HTML-escaped.

use std::fmt::Write;

/// The content type of every page here.
pub const CONTENT_TYPE: &str = "text/html; charset=UTF-8";

/// Cloud Run's 404: refused by ingress (4).
pub fn page_not_found() -> String {
    cloud_run("404 Page not found", "Page not found", |page| {
        page.push_str("The requested URL was not found on this server.");
    })
}

/// Cloud Run's 403 (5.3).
pub fn forbidden(path: &str) -> String {
    cloud_run("403 Forbidden", "Forbidden", |page| {
        page.push_str("Your client does not have permission to get URL <code>");
        escape(page, path);
        page.push_str("</code> from this server.");
    })
}

/// Cloud Run's 401 (5.3).
pub fn unauthorized(path: &str) -> String {
    cloud_run("401 Unauthorized", "Unauthorized", |page| {
        page.push_str("Your client does not have permission to the requested URL <code>");
        escape(page, path);
        page.push_str("</code>.");
    })
}

fn cloud_run(title: &str, heading: &str, sentence: impl FnOnce(&mut String)) -> String {
    let mut page = format!(
        "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n\
         <title>{title}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n\
         <h1>Error: {heading}</h1>\n<h2>"
    );
    sentence(&mut page);
    page.push_str("</h2>\n<h2></h2>\n</body></html>\n");
    page
}

/// The front end's own 404, with the robot: no such host, or a reserved path (4).
pub fn robot_not_found(path: &str) -> String {
    robot(404, "Not Found", |page| {
        page.push_str("The requested URL <code>");
        escape(page, path);
        page.push_str("</code> was not found on this server. ");
    })
}

/// The front end's redirect (text (unconfirmed); that of Google's other front ends).
pub fn moved(location: &str) -> String {
    let mut page = "<HTML><HEAD><meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n\
         <TITLE>302 Moved</TITLE></HEAD><BODY>\n<H1>302 Moved</H1>\nThe document has moved\n<A HREF=\""
        .to_owned();
    escape(&mut page, location);
    page.push_str("\">here</A>.\r\n</BODY></HTML>\r\n");
    page
}

/// The front end's 405.
pub fn robot_method_not_allowed(method: &str, path: &str) -> String {
    robot(405, "Method Not Allowed", |page| {
        page.push_str("The request method <code>");
        escape(page, method);
        page.push_str("</code> is inappropriate for the URL <code>");
        escape(page, path);
        page.push_str("</code>. ");
    })
}

/// The front end's 400.
pub fn robot_bad_request() -> String {
    robot(400, "Bad Request", |page| {
        page.push_str("Your client has issued a malformed or illegal request. ");
    })
}

const ROBOT_STYLE: &str = "*{margin:0;padding:0}html,code{font:15px/22px arial,sans-serif}html{background:#fff;color:#222;padding:15px}body{margin:7% auto 0;max-width:390px;min-height:180px;padding:30px 0 15px}* > body{background:url(//www.google.com/images/errors/robot.png) 100% 5px no-repeat;padding-right:205px}p{margin:11px 0 22px;overflow:hidden}ins{color:#777;text-decoration:none}a img{border:0}@media screen and (max-width:772px){body{background:none;margin-top:0;max-width:none;padding-right:0}}#logo{background:url(//www.google.com/images/branding/googlelogo/1x/googlelogo_color_150x54dp.png) no-repeat;margin-left:-5px}@media only screen and (min-resolution:192dpi){#logo{background:url(//www.google.com/images/branding/googlelogo/2x/googlelogo_color_150x54dp.png) no-repeat 0% 0%/100% 100%;-moz-border-image:url(//www.google.com/images/branding/googlelogo/2x/googlelogo_color_150x54dp.png) 0}}@media only screen and (-webkit-min-device-pixel-ratio:2){#logo{background:url(//www.google.com/images/branding/googlelogo/2x/googlelogo_color_150x54dp.png) no-repeat;-webkit-background-size:100% 100%}}#logo{display:inline-block;height:54px;width:150px}";

fn robot(status: u16, title: &str, sentence: impl FnOnce(&mut String)) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  \
         <meta name=viewport content=\"initial-scale=1, minimum-scale=1, width=device-width\">\n  \
         <title>Error {status} ({title})!!1</title>\n  <style>\n    {ROBOT_STYLE}\n  </style>\n  \
         <a href=//www.google.com/><span id=logo aria-label=Google></span></a>\n  \
         <p><b>{status}.</b> <ins>That’s an error.</ins>\n  <p>"
    );
    sentence(&mut page);
    page.push_str(" <ins>That’s all we know.</ins>\n");
    page
}

/// Appends `text` with the five characters of HTML escaped, and everything that a terminal might
/// obey left out of the page as a number.
fn escape(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            control if control.is_control() => {
                let _ = write!(page, "&#{};", u32::from(control));
            }
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_runs_pages_are_byte_for_byte() {
        assert_eq!(
            page_not_found(),
            "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n<title>404 Page not found</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n<h1>Error: Page not found</h1>\n<h2>The requested URL was not found on this server.</h2>\n<h2></h2>\n</body></html>\n"
        );
        assert_eq!(
            forbidden("/a<b>&\"'"),
            "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n<title>403 Forbidden</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n<h1>Error: Forbidden</h1>\n<h2>Your client does not have permission to get URL <code>/a&lt;b&gt;&amp;&quot;&#39;</code> from this server.</h2>\n<h2></h2>\n</body></html>\n"
        );
        assert_eq!(
            unauthorized("/orders"),
            "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n<title>401 Unauthorized</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n<h1>Error: Unauthorized</h1>\n<h2>Your client does not have permission to the requested URL <code>/orders</code>.</h2>\n<h2></h2>\n</body></html>\n"
        );
    }

    #[test]
    fn the_robot_page_has_its_known_length() {
        // Observed: Content-Length 1573 for the path /oisdjfoisjdf.
        assert_eq!(robot_not_found("/oisdjfoisjdf").len(), 1573);
    }
}
