//! The fields of the SendGrid v3 shape that header controls fill.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Dialect;
use super::lookup::{MARKER, category, has_room};
use crate::config::Lookup;
use crate::controls::table::Family;
use crate::controls::{Capacity, Control, Controls};

/// The fields, the same in both dialects.
const FIELDS: &[(Control, &str)] = &[
    (Control::Template, "template_id"),
    (Control::TemplateData, "personalizations.dynamic_template_data"),
    (Control::Substitutions, "personalizations.substitutions"),
    (Control::Tag, "categories"),
    (Control::Metadata, "custom_args"),
    (Control::Schedule, "send_at"),
    (Control::TrackOpens, "tracking_settings.open_tracking"),
    (Control::TrackClicks, "tracking_settings.click_tracking"),
    (Control::Sandbox, "mail_settings.sandbox_mode"),
    (Control::UnsubscribeGroup, "asm.group_id"),
    (Control::Pool, "ip_pool_name"),
];

/// Most categories of a mail, in both dialects.
pub(super) const TAGS: usize = 10;

/// What fits. ScaiSend's ids of templates begin with `d-`; SendGrid has older ones as well, and its own limit on
/// metadata.
pub(super) fn capacity(dialect: Dialect) -> Capacity {
    let (metadata, template_prefix) = match dialect {
        Dialect::ScaiSend => (usize::MAX, "d-"),
        Dialect::SendGrid => (10_000, ""),
    };
    Capacity { fields: FIELDS, family: Some(Family::SendGrid), tags: TAGS, tag_chars: 255, metadata, template_prefix }
}

/// What is asked for all recipients of a request.
#[derive(Serialize)]
pub(super) struct Asked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    template_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    categories: Cow<'a, [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_args: Option<Cow<'a, Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asm: Option<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_pool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_settings: Option<MailSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_settings: Option<Tracking>,
}

#[derive(Serialize)]
struct Group {
    group_id: u64,
}

#[derive(Serialize)]
struct MailSettings {
    sandbox_mode: Switch,
}

#[derive(Serialize)]
struct Tracking {
    #[serde(skip_serializing_if = "Option::is_none")]
    click_tracking: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_tracking: Option<Switch>,
}

#[derive(Serialize)]
struct Switch {
    enable: bool,
}

impl<'a> Asked<'a> {
    /// `marker` goes along as one more argument, and under [`Lookup::Category`] as one more category, if there is room.
    pub(super) fn new(controls: &'a Controls, marker: Option<&str>, lookup: Lookup) -> Self {
        let mut categories = Cow::Borrowed(controls.texts(Control::Tag));
        let mut custom_args = controls.map(Control::Metadata).map(Cow::Borrowed);
        if let Some(marker) = marker {
            // Whatever the mail's own headers put there: nobody else can give it this mail's.
            custom_args.get_or_insert_default().to_mut().insert(MARKER.to_owned(), marker.into());
            if lookup == Lookup::Category && has_room(controls) {
                categories.to_mut().push(category(marker));
            }
        }
        let switch = |control| controls.switch(control).map(|enable| Switch { enable });
        let (clicks, opens) = (switch(Control::TrackClicks), switch(Control::TrackOpens));
        let tracked = clicks.is_some() || opens.is_some();
        Self {
            template_id: controls.text(Control::Template),
            categories,
            custom_args,
            send_at: controls.number(Control::Schedule),
            asm: controls.number(Control::UnsubscribeGroup).map(|group_id| Group { group_id }),
            ip_pool_name: controls.text(Control::Pool),
            // Off is how it is anyway.
            mail_settings: switch(Control::Sandbox).filter(|on| on.enable).map(|on| MailSettings { sandbox_mode: on }),
            tracking_settings: tracked.then_some(Tracking { click_tracking: clicks, open_tracking: opens }),
        }
    }
}
