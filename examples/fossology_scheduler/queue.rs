//! Queueing, as the web pages do it: an upload, a job, and a row that waits.

use std::time::Duration;

use tokio_postgres::Client;

/// Queues `count` jobs, or one each `every_ms` for ever.
pub async fn queue(database: &str, agent: &str, count: u32, every_ms: Option<u64>) {
    // Apart from the scheduler's and the agents' sessions.
    let client = crate::connect(&format!("{database} application_name=fossology-web")).await;
    loop {
        for _ in 0..count {
            one(&client, agent).await;
        }
        match every_ms {
            Some(every_ms) => tokio::time::sleep(Duration::from_millis(every_ms)).await,
            None => return,
        }
    }
}

/// Queues one job for a new upload.
pub async fn one(client: &Client, agent: &str) {
    let sql = "
        WITH u AS (INSERT INTO upload (upload_desc, upload_filename, user_fk, upload_mode, upload_origin)
                   VALUES ('by the stand-in', 'source-' || (SELECT count(*) FROM upload) || '.tar.gz', 1, 104, 'source.tar.gz')
                   RETURNING upload_pk),
             j AS (INSERT INTO job (job_name, job_upload_fk, job_user_fk, job_group_fk)
                   SELECT 'upload', upload_pk, 1, 1 FROM u RETURNING job_pk, job_upload_fk)
        INSERT INTO jobqueue (jq_job_fk, jq_type, jq_args, jq_end_bits)
        SELECT job_pk, $1, job_upload_fk::text, 0 FROM j";
    client.execute(sql, &[&agent]).await.expect("a job can be queued");
}
