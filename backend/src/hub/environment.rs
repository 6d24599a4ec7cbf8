//! What the environment says of the hub: the variables of its own client, and of HTTP clients in
//! general.

use std::{
    env,
    ffi::OsString,
    fs,
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use ureq::{
    Proxy, ProxyProtocol,
    tls::{Certificate, PemItem, RootCerts, parse_pem},
};
use url::Url;

use super::HubError;

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Reads variables: the process's own, or a test's.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What the environment says.
#[derive(Debug)]
pub(super) struct Environment {
    /// Address of the hub, without a slash at its end.
    pub(super) endpoint: String,
    /// Directory of repositories.
    pub(super) cache: PathBuf,
    /// Whether only the cache may be used.
    pub(super) offline: bool,
    /// Who asks.
    pub(super) token: Option<String>,
    /// Certificates to trust in place of the system's.
    pub(super) roots: RootCerts,
    /// Hosts that are reached without a proxy.
    no_proxy: Vec<String>,
    proxies: Vec<(&'static str, Url)>,
}

/// A variable that is set to something, and its name: the first of some.
fn first<'n>(variables: Variables<'_>, names: &[&'n str]) -> Option<(&'n str, OsString)> {
    names.iter().find_map(|name| {
        let value = variables(name).filter(|value| !value.as_bytes().trim_ascii().is_empty());
        Some((*name, value?))
    })
}

fn wrong(name: &'static str, value: &str, reason: impl Into<String>) -> HubError {
    let value = match name {
        // Not shown: what is nearly a token may be one.
        _ if name.contains("TOKEN") => "…".to_owned(),
        // Paths, in which the sign of a user means nothing.
        "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" => value.to_owned(),
        _ => without_user(value),
    };
    HubError::Variable { name, value, reason: reason.into() }
}

/// An address as it may be shown: without the user and the password that may stand before its host.
pub fn without_user(address: &str) -> String {
    let Some((before, host)) = address.rsplit_once('@') else { return address.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match scheme {
        Some(scheme) => format!("{scheme}://…@{host}"),
        None => format!("…@{host}"),
    }
}

/// A variable that must be text.
fn text(
    variables: Variables<'_>,
    names: &[&'static str],
) -> Result<Option<(&'static str, String)>, HubError> {
    let Some((name, value)) = first(variables, names) else { return Ok(None) };
    match value.into_string() {
        Ok(value) => Ok(Some((name, value.trim().to_owned()))),
        Err(value) => Err(wrong(name, &value.to_string_lossy(), "it is no text in UTF-8")),
    }
}

/// A path in which `~` and `$NAME` stand for what they do in a shell, as the hub's client has it.
fn path(variables: Variables<'_>, value: &OsString) -> PathBuf {
    let Some(text) = value.to_str() else { return value.into() };
    let home = || variables("HOME").and_then(|home| home.into_string().ok());
    let mut expanded = String::new();
    let mut rest = text;
    if (text == "~" || text.starts_with("~/"))
        && let Some(home) = home()
    {
        expanded += home.trim_end_matches('/');
        rest = &text[1..];
    }
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let plain = after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let (name, behind) = braced.unwrap_or_else(|| after.split_at(plain.unwrap_or(after.len())));
        match variables(name).and_then(|value| value.into_string().ok()) {
            Some(value) if !name.is_empty() => {
                expanded += &value;
                rest = behind;
            }
            // What there is not stays as it is.
            _ => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    (expanded + rest).into()
}

/// The directory of cached files of a user.
pub fn user_cache() -> PathBuf {
    cache_of(&|name| env::var_os(name))
}

/// The directory of PyTorch's own hub.
pub fn torch_home() -> PathBuf {
    torch_home_of(&|name| env::var_os(name))
}

fn torch_home_of(variables: Variables<'_>) -> PathBuf {
    let home = first(variables, &["TORCH_HOME"]).map(|(_, home)| path(variables, &home));
    home.unwrap_or_else(|| cache_of(variables).join("torch"))
}

fn cache_of(variables: Variables<'_>) -> PathBuf {
    match first(variables, &["XDG_CACHE_HOME"]) {
        Some((_, cache)) => path(variables, &cache),
        None => {
            let home = first(variables, &["HOME"]).map_or_else(|| ".".into(), |(_, home)| home);
            PathBuf::from(home).join(".cache")
        }
    }
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`HubError::Variable`] for the first variable that cannot be used, by its name.
    pub(super) fn read(variables: Variables<'_>) -> Result<Self, HubError> {
        let directory =
            |names: &[&str]| first(variables, names).map(|(_, value)| path(variables, &value));
        let home =
            directory(&["HF_HOME"]).unwrap_or_else(|| cache_of(variables).join("huggingface"));
        let cache = directory(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]);
        let says_yes = |name| {
            first(variables, &[name]).is_some_and(|(_, value)| {
                let value = value.to_string_lossy().trim().to_ascii_lowercase();
                ["1", "on", "yes", "true"].contains(&value.as_str())
            })
        };
        Ok(Self {
            endpoint: endpoint(variables)?,
            cache: cache.unwrap_or_else(|| home.join("hub")),
            offline: says_yes("HF_HUB_OFFLINE") || says_yes("TRANSFORMERS_OFFLINE"),
            token: if says_yes("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                None
            } else {
                token(variables, &home)?
            },
            roots: roots(variables)?,
            no_proxy: text(variables, &["no_proxy", "NO_PROXY"])?
                .map(|(_, hosts)| hosts)
                .unwrap_or_default()
                .split([',', ' '])
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect(),
            proxies: proxies(variables)?,
        })
    }

    /// The proxy on the way to an address, if there is one.
    ///
    /// # Errors
    /// [`HubError::Variable`] when the variable names no proxy that can be used.
    pub(super) fn proxy(&self, url: &str) -> Result<Option<Proxy>, HubError> {
        let Ok(url) = Url::parse(url) else { return Ok(None) };
        let own = format!("{}_proxy", url.scheme());
        let of =
            |wanted: &str| self.proxies.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let Some((name, proxy)) = of(&own).or_else(|| of("all_proxy")) else { return Ok(None) };
        if self.goes_directly(&url) {
            return Ok(None);
        }
        let protocol = match proxy.scheme() {
            "http" => ProxyProtocol::Http,
            "https" => ProxyProtocol::Https,
            other => {
                let reason = format!("a proxy's scheme must be http or https, and not {other}");
                return Err(wrong(name, proxy.as_str(), reason));
            }
        };
        let decoded = |part: &str| {
            // As a form has them, but for its own signs.
            let pairs = format!("a={}", part.replace('+', "%2B").replace('&', "%26"));
            url::form_urlencoded::parse(pairs.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let mut builder = Proxy::builder(protocol).host(proxy.host_str().unwrap_or_default());
        builder = builder.port(proxy.port_or_known_default().unwrap_or(80));
        if !proxy.username().is_empty() {
            builder = builder.username(&decoded(proxy.username()));
        }
        if let Some(password) = proxy.password() {
            builder = builder.password(&decoded(password));
        }
        // For hosts that the hub redirects to.
        for host in &self.no_proxy {
            builder = builder.no_proxy(host);
            if !host.starts_with(['.', '*']) {
                builder = builder.no_proxy(&format!(".{host}"));
            }
        }
        let built = builder.build();
        built.map(Some).map_err(|error| wrong(name, proxy.as_str(), error.to_string()))
    }

    /// Whether `no_proxy` names the host: itself, a domain above it, its network, or everything.
    fn goes_directly(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default();
        self.no_proxy.iter().any(|entry| {
            if let (Ok(network), Ok(address)) = (entry.parse::<IpNet>(), host.parse::<IpAddr>()) {
                return network.contains(&address);
            }
            let (name, wanted) = match entry.rsplit_once(':') {
                Some((name, digits)) if digits.parse::<u16>().is_ok() && !name.contains(':') => {
                    (name, digits.parse().ok())
                }
                _ => (entry.as_str(), None),
            };
            if wanted.is_some() && wanted != port {
                return false;
            }
            let domain = name.trim_start_matches('*').trim_start_matches('.');
            name == "*"
                || host.eq_ignore_ascii_case(domain)
                || host.to_ascii_lowercase().ends_with(&format!(".{domain}"))
        })
    }
}

fn endpoint(variables: Variables<'_>) -> Result<String, HubError> {
    let Some((name, value)) = text(variables, &["HF_ENDPOINT"])? else {
        return Ok(ENDPOINT.into());
    };
    let example = "give scheme and host, as in https://hub.example.org";
    let has_scheme = value.contains("://");
    match Url::parse(&value) {
        Ok(url) if has_scheme && matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        Ok(url) if has_scheme => {
            let reason = format!("its scheme is {}, not http or https; {example}", url.scheme());
            Err(wrong(name, &value, reason))
        }
        _ if !has_scheme => Err(wrong(name, &value, format!("it has no scheme; {example}"))),
        Ok(_) => Err(wrong(name, &value, format!("it is no address; {example}"))),
        Err(error) => Err(wrong(name, &value, format!("{error}; {example}"))),
    }
}

/// Who asks: a variable, else the file that the hub's client keeps.
fn token(variables: Variables<'_>, home: &Path) -> Result<Option<String>, HubError> {
    let given = text(variables, &["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])?;
    let (name, token) = match given {
        Some((name, token)) => (name, token),
        None => {
            let file = first(variables, &["HF_TOKEN_PATH"])
                .map_or_else(|| home.join("token"), |(_, value)| path(variables, &value));
            // There is none where nobody has logged in.
            ("HF_TOKEN_PATH", fs::read_to_string(file).unwrap_or_default())
        }
    };
    // Copied with a line's end, or over two lines.
    let token: String = token.trim().chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    if token.is_empty() {
        return Ok(None);
    }
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Some(token))
    } else {
        Err(wrong(name, &token, "a token has letters, digits and signs only; copy it again"))
    }
}

/// Certificates to trust, where a variable of other HTTP clients names them.
fn roots(variables: Variables<'_>) -> Result<RootCerts, HubError> {
    let names: [&'static str; 2] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
    let Some((name, value)) = first(variables, &names) else {
        return Ok(RootCerts::PlatformVerifier);
    };
    let place = path(variables, &value);
    let shown = place.display().to_string();
    let files = if place.is_dir() {
        let entries =
            fs::read_dir(&place).map_err(|error| wrong(name, &shown, error.to_string()))?;
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    } else {
        vec![place.clone()]
    };
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for file in files {
        let bytes = fs::read(&file)
            .map_err(|error| wrong(name, &shown, format!("it cannot be read: {error}")))?;
        certificates.extend(parse_pem(&bytes).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
    }
    if certificates.is_empty() {
        return Err(wrong(name, &shown, "no certificate (PEM) is in it"));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn proxies(variables: Variables<'_>) -> Result<Vec<(&'static str, Url)>, HubError> {
    let mut proxies = Vec::new();
    // The small names first: servers set the large HTTP_PROXY from requests.
    for names in
        [["http_proxy", "HTTP_PROXY"], ["https_proxy", "HTTPS_PROXY"], ["all_proxy", "ALL_PROXY"]]
    {
        let Some((name, value)) = text(variables, &names)? else { continue };
        let address = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        match Url::parse(&address) {
            Ok(url) if url.has_host() => proxies.push((name, url)),
            _ => {
                let reason = "it is no address of a proxy, as http://proxy.example.org:3128";
                return Err(wrong(name, &value, reason));
            }
        }
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Environment, HubError> {
        Environment::read(&|name| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_the_hub_s_own_client_has_it() {
        for (set, cache) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "~/c")], "/h/c/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "$HOME/c")], "/h/c/hub"),
            (&[("HOME", "/h"), ("D", "e"), ("HF_HUB_CACHE", "/a/${D}x/$NONE")], "/a/ex/$NONE"),
            (&[("HF_HOME", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/new"),
            (&[("HOME", "/h"), ("HF_HOME", "")], "/h/.cache/huggingface/hub"),
        ] {
            assert_eq!(read(set).unwrap().cache, Path::new(cache), "{set:?}");
        }
    }

    #[test]
    fn pytorch_s_hub_is_where_its_own_client_has_it() {
        let of = |set: &[(&str, &str)]| {
            torch_home_of(&|name| {
                let found = set.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        for (set, home) in [
            (&[("HOME", "/h")][..], "/h/.cache/torch"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/torch"),
            (&[("HOME", "/h"), ("TORCH_HOME", "~/t")], "/h/t"),
            (&[("HOME", "/h"), ("TORCH_HOME", "$HOME/t")], "/h/t"),
        ] {
            assert_eq!(of(set), Path::new(home), "{set:?}");
        }
    }

    #[test]
    fn every_word_for_yes_of_either_variable_says_offline() {
        for (name, value, offline) in [
            ("HF_HUB_OFFLINE", "1", true),
            ("HF_HUB_OFFLINE", "TRUE", true),
            ("TRANSFORMERS_OFFLINE", "yes", true),
            ("HF_HUB_OFFLINE", "0", false),
            ("TRANSFORMERS_OFFLINE", "", false),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap().offline, offline, "{name}={value}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named() {
        for (name, value, words) in [
            ("HF_ENDPOINT", "127.0.0.1:8000", "no scheme"),
            ("HF_ENDPOINT", "not a url", "no scheme"),
            ("HF_ENDPOINT", "ftp://hub", "its scheme is ftp"),
            ("HF_TOKEN", "hf_ä b", "copy it again"),
            ("REQUESTS_CA_BUNDLE", "/nowhere.pem", "cannot be read"),
            ("https_proxy", "http://", "no address of a proxy"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(words), "{error}");
        }
        let with_socks = read(&[("ALL_PROXY", "socks5://127.0.0.1:9")]).unwrap();
        let error = with_socks.proxy("https://hub.example.org").unwrap_err().to_string();
        assert!(error.contains("ALL_PROXY") && error.contains("socks5"), "{error}");
    }

    #[test]
    fn a_token_may_have_been_copied_with_a_line_s_end() {
        for (value, token) in [("hf_abc\n", "hf_abc"), ("hf_a\nbc", "hf_abc"), (" hf_a ", "hf_a")] {
            assert_eq!(read(&[("HF_TOKEN", value)]).unwrap().token.as_deref(), Some(token));
        }
        assert_eq!(read(&[("HF_TOKEN", "\n")]).unwrap().token, None);
        let kept_back = [("HF_TOKEN", "hf_abc"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(read(&kept_back).unwrap().token, None);
    }

    #[test]
    fn no_message_shows_a_token_or_a_password() {
        let secret = OsString::from_vec(b"hf_secret\xff".to_vec());
        let of_bytes = |name: &str| (name == "HF_TOKEN").then(|| secret.clone());
        let error = Environment::read(&of_bytes).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
        for (name, value, shown) in [
            ("HF_TOKEN", "hf_secret ä", "…"),
            ("https_proxy", "user:secret@", "…@"),
            ("HF_ENDPOINT", "ftp://user:secret@hub", "ftp://…@hub"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(shown) && !error.contains("secret"), "{error}");
        }
        let with_socks = read(&[("HTTPS_PROXY", "socks5://user:secret@h")]).unwrap();
        let error = with_socks.proxy("https://hub.example.org").unwrap_err().to_string();
        assert!(error.contains("socks5://…@h") && !error.contains("secret"), "{error}");
        for (address, shown) in [
            ("https://hub.example.org/a", "https://hub.example.org/a"),
            ("https://user@hub", "https://…@hub"),
            ("user:a://b@c@hub", "…@hub"),
        ] {
            assert_eq!(without_user(address), shown);
        }
    }

    #[test]
    fn hosts_without_proxy_may_be_listed_with_spaces_domains_and_networks() {
        let proxy = "http://user:p%C3%A4ss@proxy.example.org:3128";
        let with = |list: &str, url: &str| {
            let set = [("https_proxy", proxy), ("http_proxy", proxy), ("NO_PROXY", list)];
            read(&set).unwrap().proxy(url).unwrap()
        };
        for (list, url, direct) in [
            ("localhost, 127.0.0.1", "http://127.0.0.1:8000/a", true),
            (" a.org , hub.example.org ", "https://hub.example.org", true),
            ("example.org", "https://hub.example.org", true),
            (".example.org", "https://hub.example.org", true),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("hub.org:8000", "http://hub.org:8000", true),
            ("hub.org:8001", "http://hub.org:8000", false),
            ("*", "https://anything", true),
            ("ample.org", "https://example.org", false),
            ("", "https://hub.example.org", false),
        ] {
            assert_eq!(with(list, url).is_none(), direct, "{list:?} {url}");
        }
        let both = [("https_proxy", proxy), ("NO_PROXY", "a.org"), ("no_proxy", "b.org")];
        let both = read(&both).unwrap();
        assert!(both.proxy("https://b.org").unwrap().is_none(), "the small name counts");
        assert!(both.proxy("https://a.org").unwrap().is_some());
        let used = with("", "https://hub.example.org").unwrap();
        assert_eq!((used.host(), used.port()), ("proxy.example.org", 3128));
        assert_eq!(used.password(), Some("päss"));
    }
}
