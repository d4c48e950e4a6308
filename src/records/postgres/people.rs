//! What people say of APIs: holds, and removals that they have confirmed; and what people elsewhere were told.

use tokio_postgres::types::Type;

use super::row;
use super::trouble::Trouble;
use super::worker::Tx;
use crate::tree::ApiId;
use crate::world::Hold;

pub async fn put_hold(t: &Tx<'_>, id: &ApiId, hold: &Hold) -> Result<(), Trouble> {
    const SQL: &str =
        "INSERT INTO holds VALUES ($1, $2::text::jsonb) ON CONFLICT (api) DO UPDATE SET hold = excluded.hold";
    t.execute(SQL, &[(&id.as_str(), Type::TEXT), (&row::json(hold)?, Type::TEXT)]).await?;
    Ok(())
}

pub async fn release(t: &Tx<'_>, id: &ApiId) -> Result<bool, Trouble> {
    Ok(t.execute("DELETE FROM holds WHERE api = $1", &[(&id.as_str(), Type::TEXT)]).await? > 0)
}

/// Only the hold that was made then: somebody may have made another one since.
pub async fn release_spent(t: &Tx<'_>, id: &ApiId, hold: &Hold) -> Result<(), Trouble> {
    const SQL: &str = "DELETE FROM holds WHERE api = $1 AND hold ->> 'at' = $2";
    t.execute(SQL, &[(&id.as_str(), Type::TEXT), (&hold.at.to_string(), Type::TEXT)]).await?;
    Ok(())
}

pub async fn confirm(t: &Tx<'_>, ids: &[ApiId]) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO removals SELECT DISTINCT unnest($1::text[]) ON CONFLICT DO NOTHING";
    t.execute(SQL, &[(&texts(ids), Type::TEXT_ARRAY)]).await?;
    Ok(())
}

pub async fn withdraw(t: &Tx<'_>, ids: &[ApiId]) -> Result<(), Trouble> {
    t.execute("DELETE FROM removals WHERE api = ANY($1)", &[(&texts(ids), Type::TEXT_ARRAY)]).await?;
    Ok(())
}

pub async fn confirmed(t: &Tx<'_>) -> Result<Vec<ApiId>, Trouble> {
    let rows = t.query("SELECT api FROM removals", &[]).await?;
    let mut ids = row::readable(rows.iter().map(|r| row::api("removals", r.try_get(0)?)))?;
    ids.sort();
    Ok(ids)
}

pub async fn told(t: &Tx<'_>) -> Result<Option<String>, Trouble> {
    let row = t.query("SELECT text FROM told", &[]).await?;
    Ok(row.first().map(|r| r.try_get(0)).transpose()?)
}

pub async fn put_told(t: &Tx<'_>, text: &str) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO told (text) VALUES ($1) ON CONFLICT (only_one) DO UPDATE SET text = excluded.text";
    t.execute(SQL, &[(&text, Type::TEXT)]).await?;
    Ok(())
}

fn texts(ids: &[ApiId]) -> Vec<&str> {
    ids.iter().map(ApiId::as_str).collect()
}
