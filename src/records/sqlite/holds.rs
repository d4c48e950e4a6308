//! Holds: a person's word, of which the reconciler takes back only what is over.

use rusqlite::Transaction;

use super::row;
use super::trouble::Trouble;
use crate::tree::ApiId;
use crate::world::Hold;

pub fn put(t: &Transaction<'_>, id: &ApiId, hold: &Hold) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO holds (api, hold) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET hold = excluded.hold";
    t.execute(SQL, [id.as_str(), &row::json(hold)?])?;
    Ok(())
}

pub fn release(t: &Transaction<'_>, id: &ApiId) -> Result<bool, Trouble> {
    Ok(t.execute("DELETE FROM holds WHERE api = ?1", [id.as_str()])? > 0)
}

/// Only the hold that was made then: somebody may have made another one since.
pub fn release_spent(t: &Transaction<'_>, id: &ApiId, hold: &Hold) -> Result<(), Trouble> {
    const SQL: &str = "DELETE FROM holds WHERE api = ?1 AND hold ->> '$.at' = ?2";
    t.execute(SQL, [id.as_str(), &hold.at.to_string()])?;
    Ok(())
}
