//! What no setting alone can say: settings that need each other, or contradict each other. Pure.

use super::key::Key;
use super::layers::Layers;
use super::origin::{Origin, Setting};
use super::problem::Problem;
use super::value::{self, Value};

/// What no setting alone can say.
pub(super) fn check(layers: &mut Layers, files_are_broken: bool, local: bool) {
    // What seems to be missing may stand where a file could not be read.
    if !local && !files_are_broken {
        check_credentials(layers);
        check_encryption(layers);
    }
    check_holds(layers);
}

/// Both credentials or none.
fn check_credentials(layers: &mut Layers) {
    let (key, uuid) = (layers.given(Key::ApiKey), layers.given(Key::NodeUuid));
    let problem = match (key, uuid) {
        (Some(origin), None) => Problem::HalfCredentials {
            missing: Key::NodeUuid,
            present: Key::ApiKey,
            origin: origin.clone(),
            cure: "the dashboard shows it on the node's settings page; put it into the file or into \
                   FLOWTRIQ_NODE_UUID, or work without a platform with --local",
        },
        (None, Some(origin)) => Problem::HalfCredentials {
            missing: Key::ApiKey,
            present: Key::NodeUuid,
            origin: origin.clone(),
            cure: "the dashboard shows it in its settings, under API keys; put it into the file or into \
                   FLOWTRIQ_API_KEY, or work without a platform with --local",
        },
        (Some(_), Some(_)) | (None, None) => return,
    };
    layers.problems.push(problem);
}

/// The key travels encrypted, or not far, or because somebody insists.
fn check_encryption(layers: &mut Layers) {
    let Some(Setting {
        value: Value::Text(base),
        origin,
    }) = layers.get(Key::ApiBase)
    else {
        return;
    };
    if !value::is_exposed(base) {
        return;
    }
    let (base, origin) = (base.clone(), origin.clone());
    match layers.get(Key::AllowHttp) {
        Some(Setting {
            value: Value::Switch(true),
            origin,
        }) => {
            let notice = format!(
                "api.allow_http: the API key travels unencrypted to {base} (allowed {origin})"
            );
            layers.notices.push(notice);
        }
        _ => layers.problems.push(Problem::Unencrypted { base, origin }),
    }
}

/// The hold grows from the first to the longest.
fn check_holds(layers: &mut Layers) {
    let number = |key| match layers.get(key) {
        Some(Setting {
            value: Value::Number(number),
            origin,
        }) => Some((*number, origin.clone())),
        _ => None,
    };
    let (Some((least, first)), Some((found, longest))) =
        (number(Key::HoldSeconds), number(Key::LongestHoldSeconds))
    else {
        return;
    };
    if found < least {
        // Whichever of the two somebody set is the one to look at.
        let origin = if longest == Origin::Default {
            first
        } else {
            longest
        };
        layers.problems.push(Problem::Below {
            key: Key::LongestHoldSeconds,
            other: Key::HoldSeconds,
            least,
            found,
            origin,
        });
    }
}
