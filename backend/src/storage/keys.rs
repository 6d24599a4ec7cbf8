//! Keys under which clients ask for jobs: whoever asks again under a key gets the job that there
//! is.

use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};
use var_dd_protocol::{GenerateRequest, JobId, OwnerToken};

use super::{JobRecord, Store, StoreError, record::from_json, results::insert_job, to_json};

/// A client's key with what it stands for. The key itself is not kept.
#[derive(Clone, Debug)]
pub struct RequestKey {
    key: String,
    /// SHA-256 of the request as the client asked it.
    request: [u8; 32],
}

impl RequestKey {
    /// The key of a request.
    ///
    /// # Errors
    /// When the request cannot be written as JSON.
    pub fn new(key: String, request: &GenerateRequest) -> Result<Self, StoreError> {
        let request = Sha256::digest(to_json(request)?.as_bytes()).into();
        Ok(Self { key, request })
    }

    /// 128 bits of the key alone, from which it cannot be told.
    pub fn digest(&self) -> [u8; 16] {
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.hash();
        digest
    }

    /// SHA-256 of the request as the client asked it.
    pub fn request_digest(&self) -> &[u8; 32] {
        &self.request
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(format!("key\0{}", self.key)).into()
    }

    /// The owner's token of a job that is asked for under this key: whoever has the key can be told
    /// it again, whoever has the database alone cannot.
    pub fn owner_token(&self, salt: &[u8]) -> OwnerToken {
        let mut digest = Sha256::new();
        digest.update(b"owner\0");
        digest.update(salt);
        digest.update(self.key.as_bytes());
        OwnerToken(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What was asked for under a key before.
#[derive(Clone, Debug, PartialEq)]
pub enum AskedBefore {
    /// Nothing.
    Never,
    /// The same.
    Same {
        /// Its job.
        job: JobId,
        /// The owner's token that was given out.
        owner_token: OwnerToken,
        /// The request as accepted.
        request: Box<GenerateRequest>,
    },
    /// Something else.
    Other {
        /// Its job.
        job: JobId,
    },
}

impl Store {
    /// What was asked for under a key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn asked_before(&self, key: &RequestKey) -> Result<AskedBefore, StoreError> {
        let mut connection = self.0.reader.acquire().await?;
        find(&mut connection, key).await
    }

    /// Keeps an accepted job under a key, unless one was asked for under it before; returns its
    /// place in the order of acceptance, or what there is. Durable on return.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accept_once(
        &self,
        job: &JobRecord,
        key: &RequestKey,
        salt: &[u8],
    ) -> Result<Result<i64, AskedBefore>, StoreError> {
        self.check_in_place()?;
        let mut transaction = self.0.writer.begin().await?;
        let before = find(&mut transaction, key).await?;
        if before != AskedBefore::Never {
            return Ok(Err(before));
        }
        let number = insert_job(&mut transaction, job).await?;
        sqlx::query("INSERT INTO keys (key, request, salt, job) VALUES (?, ?, ?, ?)")
            .bind(&key.hash()[..])
            .bind(&key.request[..])
            .bind(salt)
            .bind(number)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Ok(number))
    }
}

async fn find(
    connection: &mut SqliteConnection,
    key: &RequestKey,
) -> Result<AskedBefore, StoreError> {
    let row = sqlx::query(
        "SELECT jobs.id, jobs.request AS accepted, keys.request, keys.salt FROM keys
         JOIN jobs ON jobs.number = keys.job WHERE keys.key = ?",
    )
    .bind(&key.hash()[..])
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(AskedBefore::Never) };
    let id: &str = row.try_get("id")?;
    let job = id.parse().map_err(|error| StoreError::damaged("a row of the database", error))?;
    let request: &[u8] = row.try_get("request")?;
    if request != key.request {
        return Ok(AskedBefore::Other { job });
    }
    let salt: &[u8] = row.try_get("salt")?;
    let request = Box::new(from_json(row.try_get("accepted")?)?);
    Ok(AskedBefore::Same { job, owner_token: key.owner_token(salt), request })
}
