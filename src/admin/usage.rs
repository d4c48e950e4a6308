//! Usage as the control surface answers with it.

use jiff::Timestamp;
use serde_json::Value;

use super::fault::Fault;
use super::streams::Query;
use crate::records::Records;
use crate::report::usage::UsageJson;
use crate::usage::{UsageBy, UsageQuery, since};

/// From when on, where nobody says it.
const SINCE: &str = "24h";

/// `GET /admin/usage?api=&key=&since=&by=`: as `skep usage --output json`.
pub(super) async fn answer(records: &dyn Records, query: &Query) -> Result<Value, Fault> {
    let since = since(query.get("since").unwrap_or(SINCE), Timestamp::now());
    let by = query.get("by").map_or(Ok(UsageBy::default()), str::parse);
    let query = UsageQuery {
        api: query.api()?,
        key: query.get("key").map(str::to_owned),
        since: since.map_err(|why| Fault::Bad(format!("since: {why}")))?,
        by: by.map_err(|why| Fault::Bad(format!("by: {why}")))?,
    };
    let rows = records.usage(&query).await?;
    serde_json::to_value(UsageJson::new(&query, &rows)).map_err(|error| Fault::Unavailable(error.to_string()))
}
