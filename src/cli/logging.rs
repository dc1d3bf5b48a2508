//! What the libraries say about their work, on stderr.

use tracing_subscriber::EnvFilter;

/// Variable that says what is shown, as in `info` or `sunseo_log=debug`.
const VARIABLE: &str = "SUNSEO_LOG";

/// Shows what is at least this serious, unless the variable says otherwise. A second call changes nothing.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    // someone may have installed one already, which then stays
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
