//! An examination asks a Postgres how it and our tables are, for `skep doctor`. It changes nothing.

use std::time::{Duration, Instant};

use super::trouble::{Trouble, explain};
use super::{Place, Trust, migrations, tls};
use crate::records::RecordsError;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Where it is, without user and password.
    pub place: String,
    /// What the server calls its version.
    pub version: String,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Whether it takes writes.
    pub is_writable: bool,
    /// The schema that our tables were written with; `None` where there are none yet.
    pub schema: Option<i64>,
    /// The schema that this binary writes.
    pub known: i64,
    /// The mark of the installation that they are of.
    pub owner: Option<String>,
    /// Why what is missing of our tables cannot be made, by a try that was undone; `None` where it can, or all is there.
    pub trouble: Option<String>,
    /// How many connections the server takes, and how many it has.
    pub connections: (i64, i64),
    /// How many APIs have a row.
    pub apis: i64,
    /// How long a question takes, there and back.
    pub trip: Duration,
}

/// Asks.
///
/// # Errors
/// [`RecordsError::Open`] where it cannot be reached, or does not answer.
pub async fn examine(place: &Place) -> Result<Condition, RecordsError> {
    let failed = |cause: String| RecordsError::Open { place: place.address.place().to_owned(), cause };
    let connector = tls::connector(&place.address).map_err(failed)?;
    let asked = async {
        let (client, connection) = place.address.config.connect(connector).await?;
        let connection = tokio::spawn(connection);
        let condition = ask(&client, place).await;
        connection.abort();
        condition
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(condition)) => Ok(condition),
        Ok(Err(Trouble::Sql(error))) => Err(failed(explain(&error))),
        Ok(Err(trouble)) => Err(failed(trouble.to_string())),
        Err(_) => Err(failed(format!("it did not answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn ask(client: &tokio_postgres::Client, place: &Place) -> Result<Condition, Trouble> {
    const ASK: &str = "SELECT current_setting('server_version'),
        coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
        NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off',
        current_setting('max_connections')::bigint, (SELECT sum(numbackends)::bigint FROM pg_stat_database)";
    let begun = Instant::now();
    client.batch_execute("").await?;
    let trip = begun.elapsed();
    let row = client.query_typed_one(ASK, &[]).await?;
    let found = migrations::look(client, &place.schema).await?;
    let apis = match found.schema {
        None => 0,
        Some(_) => {
            let sql = format!("SELECT count(*) FROM {}.apis", place.schema);
            client.query_typed_one(&sql, &[]).await?.try_get(0)?
        }
    };
    let is_writable: bool = row.try_get(2)?;
    let trouble = if is_writable { migrations::try_out(client, &found, place).await } else { None };
    Ok(Condition {
        place: place.address.place().to_owned(),
        version: row.try_get(0)?,
        // A pool before the server would speak of its own way to it.
        is_encrypted: match place.address.trust {
            Trust::Plain => false,
            Trust::Prefer => row.try_get(1)?,
            Trust::Encrypted | Trust::Authority | Trust::Full => true,
        },
        is_writable,
        schema: found.schema,
        known: i64::try_from(migrations::KNOWN).unwrap_or(i64::MAX),
        owner: found.owner,
        trouble,
        connections: (row.try_get(3)?, row.try_get(4)?),
        apis,
        trip,
    })
}
