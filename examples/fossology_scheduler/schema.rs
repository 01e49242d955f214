//! FOSSology's tables as far as a repository needs them.

/// Names and types as FOSSology has them.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS users (
    user_pk serial PRIMARY KEY, user_name text NOT NULL UNIQUE, root_folder_fk integer, user_desc text,
    user_email text, user_status text DEFAULT 'active');
CREATE TABLE IF NOT EXISTS pfile (
    pfile_pk serial PRIMARY KEY, pfile_md5 char(32) NOT NULL, pfile_sha1 char(40) NOT NULL,
    pfile_sha256 char(64), pfile_size bigint NOT NULL, pfile_mimetypefk integer,
    UNIQUE (pfile_md5, pfile_sha1, pfile_size));
CREATE TABLE IF NOT EXISTS upload (
    upload_pk serial PRIMARY KEY, upload_desc text, upload_filename text NOT NULL, user_fk integer,
    upload_mode integer NOT NULL, upload_ts timestamptz NOT NULL DEFAULT now(),
    pfile_fk integer REFERENCES pfile, upload_origin text,
    uploadtree_tablename varchar(18) NOT NULL DEFAULT 'uploadtree');
CREATE TABLE IF NOT EXISTS uploadtree (
    uploadtree_pk serial PRIMARY KEY, parent integer, realparent integer, upload_fk integer REFERENCES upload,
    pfile_fk integer, ufile_mode integer, lft integer, rgt integer, ufile_name text);
CREATE TABLE IF NOT EXISTS ununpack_ars (
    ars_pk serial PRIMARY KEY, agent_fk integer NOT NULL, upload_fk integer NOT NULL,
    ars_success boolean NOT NULL DEFAULT false, ars_status text,
    ars_starttime timestamptz NOT NULL DEFAULT now(), ars_endtime timestamptz);
CREATE TABLE IF NOT EXISTS job (
    job_pk serial PRIMARY KEY, job_queued timestamptz NOT NULL DEFAULT now(), job_priority integer NOT NULL DEFAULT 0,
    job_email_notify text, job_name text, job_upload_fk integer, job_folder_fk integer, job_user_fk integer,
    job_group_fk integer);
CREATE TABLE IF NOT EXISTS jobqueue (
    jq_pk serial PRIMARY KEY, jq_job_fk integer NOT NULL REFERENCES job, jq_type text NOT NULL, jq_args text,
    jq_starttime timestamptz, jq_endtime timestamptz, jq_endtext text, jq_end_bits smallint NOT NULL DEFAULT 0,
    jq_schedinfo text, jq_itemsprocessed bigint DEFAULT 0, jq_log text, jq_runonpfile text, jq_host text,
    jq_cmd_args text);
CREATE TABLE IF NOT EXISTS jobdepends (
    jdep_jq_fk integer NOT NULL REFERENCES jobqueue, jdep_jq_depends_fk integer NOT NULL REFERENCES jobqueue,
    jdep_depends_bits smallint);
INSERT INTO users (user_name, user_desc) VALUES ('fossy', 'Default Administrator') ON CONFLICT DO NOTHING;
";

/// Creates the tables that are missing.
pub async fn create(database: &str) {
    crate::connect(database).await.batch_execute(SCHEMA).await.expect("the tables can be created");
}
