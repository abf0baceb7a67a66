//! Where the platform is: the configured address, checked once, and the URLs below it. Pure; on any thread.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// The address that all calls of the API hang off, such as `https://flowtriq.com/api/v1`.
///
/// `https`, or `http` where that is safe: to this host itself, or anywhere once the operator allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiBase {
    url: Url,
    loopback: bool,
}

/// Why a text cannot be an address of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// No URL, or one without a host.
    #[error(
        "api.base: {found:?} is no address: {reason}; expected one such as https://flowtriq.com/api/v1"
    )]
    NoUrl {
        /// What was given; without user name and password, should there be such.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key would cross a network in the clear.
    #[error(
        "api.base: {found} would send the API key unencrypted; use https://, or set api.allow_http = true if the network in between is yours"
    )]
    PlainHttp {
        /// What was given.
        found: String,
    },
}

impl ApiBase {
    /// The address in `text`; slashes at its end do not matter. `allow_http` lets `http://` lead to other hosts too.
    ///
    /// # Errors
    ///
    /// When it is no URL that calls can hang off, or an unencrypted one that is not allowed.
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, BaseError> {
        let text = text.trim();
        let no_url = |reason: &str| BaseError::NoUrl {
            // What stands before an @ may be a secret.
            found: text.rsplit('@').next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(text).map_err(|error| no_url(&error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(no_url("it has a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(no_url("it has a ? or a #"));
        }
        let loopback = match url.host_str() {
            None | Some("") => return Err(no_url("it has no host")),
            Some("localhost") => true,
            // IPv6 addresses stand in brackets in URLs.
            Some(host) => host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback()),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback || allow_http => {}
            "http" => {
                return Err(BaseError::PlainHttp {
                    found: text.to_owned(),
                });
            }
            _ => return Err(no_url("it begins with neither https:// nor http://")),
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url, loopback })
    }

    /// Whether what is sent crosses a network unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.url.scheme() == "http" && !self.loopback
    }

    /// Whether the platform is on this host.
    pub(super) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether connections to it are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL of a call of the agent: `path` begins with a slash.
    pub(super) fn agent(&self, path: &str) -> Url {
        self.with_path(&format!("{}{path}", self.path()))
    }

    /// The URL of a call beside the versioned API, which health and deploy are: the final `/v1` is left out.
    pub(super) fn beside(&self, path: &str) -> Url {
        let folder = self.path();
        let folder = folder.strip_suffix("/v1").unwrap_or(folder);
        self.with_path(&format!("{folder}{path}"))
    }

    /// The path without a slash at its end; a URL always has one at its beginning.
    fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    fn with_path(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }
}

impl fmt::Display for ApiBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> ApiBase {
        ApiBase::parse(text, false).unwrap()
    }

    #[test]
    fn calls_hang_off_the_base_and_health_and_deploy_off_what_is_before_v1() {
        for (text, heartbeat, health) in [
            (
                "https://flowtriq.com/api/v1",
                "https://flowtriq.com/api/v1/agent/heartbeat",
                "https://flowtriq.com/api/health",
            ),
            (
                " https://flowtriq.com/api/v1// ",
                "https://flowtriq.com/api/v1/agent/heartbeat",
                "https://flowtriq.com/api/health",
            ),
            (
                "http://127.0.0.1:4010/api/v1",
                "http://127.0.0.1:4010/api/v1/agent/heartbeat",
                "http://127.0.0.1:4010/api/health",
            ),
            (
                "http://[::1]:8080",
                "http://[::1]:8080/agent/heartbeat",
                "http://[::1]:8080/health",
            ),
            (
                "https://proxy.example/flowtriq",
                "https://proxy.example/flowtriq/agent/heartbeat",
                "https://proxy.example/flowtriq/health",
            ),
        ] {
            let base = base(text);
            assert_eq!(base.agent("/agent/heartbeat").as_str(), heartbeat);
            assert_eq!(base.beside("/health").as_str(), health);
        }
        assert_eq!(
            base("https://flowtriq.com/api/v1/").to_string(),
            "https://flowtriq.com/api/v1"
        );
    }

    #[test]
    fn unencrypted_is_for_this_host_or_on_request_and_is_said() {
        for text in ["http://localhost/v1", "http://127.9.9.9/", "http://[::1]/"] {
            assert!(!base(text).is_exposed(), "{text}");
        }
        let text = "http://platform.example/api/v1";
        let refused = ApiBase::parse(text, false).unwrap_err().to_string();
        assert!(refused.contains("api.allow_http = true"), "{refused}");
        assert!(ApiBase::parse(text, true).unwrap().is_exposed());
        // A name that only begins like this host is another host.
        for text in ["http://localhost.example/", "http://127.0.0.1.example/"] {
            assert!(ApiBase::parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn what_calls_cannot_hang_off_is_refused() {
        for text in [
            "",
            "flowtriq.com/api/v1",
            "ftp://flowtriq.com/",
            "https://",
            "https://flowtriq.com/api?key=1",
            "https://flowtriq.com/api#v1",
            "data:text/plain,hello",
        ] {
            assert!(ApiBase::parse(text, true).is_err(), "{text}");
        }
        for text in ["https://user:MARKER@flowtriq.com/", "https://MARKER@:x/"] {
            let refused = ApiBase::parse(text, true).unwrap_err();
            assert!(!refused.to_string().contains("MARKER"), "{refused}");
        }
    }
}
