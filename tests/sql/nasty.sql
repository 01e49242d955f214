-- What makes a dump wrong. Loaded into a new server as its superuser with psql; {{TABLESPACE}} is a directory.
\set ON_ERROR_STOP on
SET client_min_messages = error;
SELECT current_setting('server_version_num')::int >= 160000 AS is16,
       current_setting('server_version_num')::int >= 170000 AS is17,
       current_setting('server_version_num')::int >= 180000 AS is18 \gset

-- The whole server: roles, memberships, settings, tablespaces.
CREATE ROLE reader;
CREATE ROLE writer LOGIN PASSWORD 'secret' CONNECTION LIMIT 3 VALID UNTIL '2038-01-19';
CREATE ROLE "odd ""role"" naïve %" CREATEDB CREATEROLE INHERIT;
CREATE ROLE owner_of_things NOINHERIT BYPASSRLS;
COMMENT ON ROLE reader IS E'reads\nonly';
GRANT reader TO writer WITH ADMIN OPTION;
GRANT writer TO "odd ""role"" naïve %";
ALTER ROLE writer SET work_mem = '7MB';
ALTER ROLE writer SET search_path = shop, public;
GRANT SET ON PARAMETER log_statement TO writer;
CREATE TABLESPACE elsewhere OWNER owner_of_things LOCATION '{{TABLESPACE}}' WITH (random_page_cost = 1.5);
GRANT CREATE ON TABLESPACE elsewhere TO writer;

-- What pg_dumpall drops: settings, rights and comments of the databases that are always there.
ALTER DATABASE postgres SET statement_timeout = '17min';
ALTER ROLE writer IN DATABASE postgres SET work_mem = '9MB';
COMMENT ON DATABASE postgres IS 'default administrative connection database, ours';
GRANT TEMPORARY ON DATABASE postgres TO reader WITH GRANT OPTION;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO writer;
ALTER DATABASE template1 SET lock_timeout = '3min';
CREATE TABLE kept_in_postgres (a int PRIMARY KEY, b text);
INSERT INTO kept_in_postgres SELECT g, 'row ' || g FROM generate_series(1, 100) g;
\connect template1
CREATE TABLE in_every_new_database (a int);
INSERT INTO in_every_new_database VALUES (1);
\connect postgres

CREATE DATABASE shop OWNER owner_of_things TABLESPACE elsewhere;
COMMENT ON DATABASE shop IS E'it''s\na \\ shop';
ALTER DATABASE shop SET DateStyle = 'SQL, DMY';
ALTER DATABASE shop SET IntervalStyle = 'sql_standard';
ALTER DATABASE shop SET bytea_output = 'escape';
ALTER DATABASE shop SET extra_float_digits = -3;
ALTER DATABASE shop SET default_transaction_read_only = on;
ALTER DATABASE shop SET standard_conforming_strings = off;
ALTER DATABASE shop SET TimeZone = 'Asia/Kolkata';
ALTER DATABASE shop CONNECTION LIMIT 40;
ALTER ROLE writer IN DATABASE shop SET work_mem = '11MB';
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO reader;
-- By name it comes before those of other encodings: pg_dumpall would make it while connected to one, and misspell it.
CREATE DATABASE "A 'thing' ""works"" \here % =é" TEMPLATE template0;
CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
CREATE DATABASE empty TEMPLATE template0 IS_TEMPLATE true;
CREATE DATABASE closed TEMPLATE template0 ALLOW_CONNECTIONS false;

\setenv PGOPTIONS '-c default_transaction_read_only=off -c client_min_messages=error -c standard_conforming_strings=on'
\connect -reuse-previous=on "dbname='shop' options='-c default_transaction_read_only=off -c client_min_messages=error -c standard_conforming_strings=on'"

-- Extensions, with objects that hang on them.
CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION citext;
CREATE EXTENSION btree_gist;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
CREATE EXTENSION lo;
COMMENT ON EXTENSION hstore IS 'ours';

CREATE SCHEMA shop AUTHORIZATION owner_of_things;
CREATE SCHEMA "od""d sch%ema";
CREATE SCHEMA gone;
DROP SCHEMA gone;
GRANT USAGE ON SCHEMA shop TO reader;
GRANT CREATE ON SCHEMA public TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE writer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE writer GRANT ALL ON SEQUENCES TO reader WITH GRANT OPTION;

-- Types of every kind.
CREATE TYPE shop.mood AS ENUM ('sad', 'it''s ok', E'new\nline', 'happy');
ALTER TYPE shop.mood ADD VALUE 'meh' BEFORE 'happy';
CREATE TYPE shop.pair AS (a int, b text);
ALTER TYPE shop.pair ADD ATTRIBUTE c numeric;
ALTER TYPE shop.pair DROP ATTRIBUTE b;
CREATE TYPE shop.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN shop.positive AS int DEFAULT 1 CONSTRAINT more_than_none CHECK (VALUE > 0);
CREATE DOMAIN shop.positives AS shop.positive[] CHECK (array_length(VALUE, 1) < 5) NOT NULL;
COMMENT ON CONSTRAINT more_than_none ON DOMAIN shop.positive IS 'why';
CREATE TYPE shop.shell;
CREATE TYPE public.two_bytes;
CREATE FUNCTION two_in(cstring) RETURNS two_bytes LANGUAGE internal IMMUTABLE STRICT AS 'int2in';
CREATE FUNCTION two_out(two_bytes) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int2out';
CREATE TYPE public.two_bytes (INPUT = two_in, OUTPUT = two_out, LIKE = int2);
CREATE COLLATION shop.coarse (PROVIDER = libc, LOCALE = 'C');

-- Functions, procedures, aggregates, operators, casts, transforms.
CREATE FUNCTION shop.add_one(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION shop.atomic(a int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) + a FROM pg_catalog.pg_class; END;
CREATE FUNCTION shop.body_with_traps() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = shop AS $body$
BEGIN
    /* lines that look like commands of psql
\connect nowhere
\.
    */
    RETURN $$it's
COPY x FROM stdin;
$$;
END $body$;
CREATE PROCEDURE shop.work(INOUT a int) LANGUAGE plpgsql AS $$ BEGIN a := a + 1; END $$;
CREATE AGGREGATE shop.glue(text) (SFUNC = textcat, STYPE = text, INITCOND = '>');
CREATE OPERATOR shop.=~= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = OPERATOR(shop.=~=), RESTRICT = eqsel);
CREATE OPERATOR FAMILY shop.fam USING btree;
CREATE OPERATOR CLASS shop.backwards FOR TYPE int4 USING btree AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int4, int4);
CREATE FUNCTION shop.pair_to_text(shop.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.a::text';
CREATE CAST (shop.pair AS text) WITH FUNCTION shop.pair_to_text(shop.pair) AS ASSIGNMENT;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE TEXT SEARCH DICTIONARY shop.dict (TEMPLATE = simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION shop.conf (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION shop.conf ALTER MAPPING FOR word WITH shop.dict;
CREATE CONVERSION shop.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD heap_twin TYPE TABLE HANDLER heap_tableam_handler;

-- Tables: every kind of value.
CREATE TABLE shop.vals (
    id bigint GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 7) PRIMARY KEY,
    a_text text COLLATE shop.coarse, a_bytes bytea, a_float float8, a_real real, a_num numeric, a_date date,
    a_stamp timestamptz, a_time timetz, a_span interval, a_mood shop.mood, a_pair shop.pair, a_list text[], a_grid int[][],
    a_range shop.span, an_int4range int4range, a_json json, a_jsonb jsonb, an_xml text, a_uuid uuid, an_inet inet,
    a_bit bit varying, a_point point, a_path path, a_vector tsvector, a_query tsquery, a_store ext.hstore, a_citext citext,
    a_positive shop.positive, a_two two_bytes, a_money money, an_oid oid, a_reg regclass, a_char "char", a_name name,
    doubled int GENERATED ALWAYS AS (a_positive * 2) STORED,
    dropped_later int, "Quoted ""Col""	tab" text DEFAULT E'a\tb\\n');
INSERT INTO shop.vals (a_text, a_bytes, a_float, a_real, a_num, a_date, a_stamp, a_time, a_span, a_mood, a_pair, a_list, a_grid,
    a_range, an_int4range, a_json, a_jsonb, an_xml, a_uuid, an_inet, a_bit, a_point, a_path, a_vector, a_query, a_store, a_citext,
    a_positive, a_two, a_money, an_oid, a_reg, a_char, a_name, dropped_later) VALUES
    (E'tab\tnl\ncr\rbs\\b\b\f\v \\N \\.', '\x00ff5c0a09', 'NaN', 'Infinity', 'NaN', '0044-03-15 BC', 'infinity', '23:59:60+05:30',
     '-1 year -2 mons +3 days -04:05:06.789', E'new\nline', ROW(1, 2.50), ARRAY['a,b', NULL, '', '"q"', E'\\'], '{{1,2},{3,4}}',
     '[1.1,2.2)', 'empty', '{"a" : 1, "a":2}', '{"b":[1,null,"\u00e9"]}', '<a/>', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/128',
     B'', '(1.5,-0)', '[(0,0),(1,1)]', 'a:1 b:2A', 'a & !b', 'k=>NULL,"x y"=>"=>"', 'MiXed', 3, '7', '-12.34', 4294967295,
     'pg_class', E'\\', 'n', 1),
    ('\N', '', '-0', '-Infinity', 'Infinity', 'infinity', '-infinity', '00:00-12', '178000000 years', 'sad', ROW(NULL, NULL), '{}',
     NULL, '(,)', '(,5]', 'null', '"x"', '', NULL, '10.0.0.0/8', B'0101', '(Infinity,NaN)', '((0,0))', '', '', '', '', 1, '-1',
     '0', 0, NULL, '', '', 2),
    ('\.', NULL, 1e-308, 1.17549435e-38, 1e-200, '4713-01-01 BC', '4714-11-24 00:00:00+00 BC', '12:00', '-00:00:00.000001', NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    ('', NULL, 0.1, 0.1, 0.10000, '5874897-12-31', '294276-12-31 23:59:59.999999+00', '00:00', '0', NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO shop.vals (a_text) SELECT repeat('toast me ' || g || ' ', 3000 + g) FROM generate_series(1, 40) g;
INSERT INTO shop.vals (a_text, a_bytes) SELECT repeat(chr(8364), 1000000), decode(repeat('00ff0a5c', 500000), 'hex');
ALTER TABLE shop.vals DROP COLUMN dropped_later;
ALTER TABLE shop.vals ADD COLUMN added_later text DEFAULT 'from the catalog' NOT NULL;
ALTER TABLE shop.vals ALTER a_text SET STORAGE EXTERNAL, ALTER a_text SET STATISTICS 555;
ALTER TABLE shop.vals SET (fillfactor = 70, toast.autovacuum_enabled = off);
COMMENT ON COLUMN shop.vals.a_text IS E'a comment\n\\.\nCOPY';
GRANT SELECT (a_text), UPDATE (a_json) ON shop.vals TO writer;

CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE only_generated (a int GENERATED ALWAYS AS (1) STORED);
INSERT INTO only_generated DEFAULT VALUES;
CREATE TABLE all_dropped (a int);
INSERT INTO all_dropped VALUES (1), (2), (3);
ALTER TABLE all_dropped DROP COLUMN a;
CREATE UNLOGGED TABLE scratch AS SELECT g AS a FROM generate_series(1, 10) g;
CREATE TABLE on_twin (a int) USING heap_twin;
INSERT INTO on_twin SELECT generate_series(1, 20);
CREATE TABLE typed OF shop.pair (a WITH OPTIONS PRIMARY KEY);
INSERT INTO typed VALUES (1, 2);
CREATE TABLE "od""d sch%ema"."t'ab	le
nl é % \ $$" ("c	ol
umn\" text, "%s" text, "é" int);
INSERT INTO "od""d sch%ema"."t'ab	le
nl é % \ $$" VALUES ('x', '%s', 1), (NULL, E'\n', 2);
CREATE TABLE "order" ("select" int, "from" text);
INSERT INTO "order" VALUES (1, 'keyword');
CREATE TABLE far (a int, b text) TABLESPACE elsewhere;
INSERT INTO far SELECT g, md5(g::text) FROM generate_series(1, 5000) g;
CREATE INDEX far_b ON far (b) TABLESPACE elsewhere WHERE a > 10;
CREATE TABLE one_text (t text);
INSERT INTO one_text VALUES (''), (NULL), ('\N'), ('\.'), (E'\\.\n\\.'), ('E'), ('BEGIN;');
CREATE TABLE virtually_wide (a int);
\if :is18
ALTER TABLE virtually_wide ADD COLUMN v int GENERATED ALWAYS AS (a * 3) VIRTUAL;
ALTER TABLE virtually_wide ADD CONSTRAINT a_there NOT NULL a NOT VALID;
CREATE TABLE timed (k int4range, during daterange, PRIMARY KEY (k, during WITHOUT OVERLAPS));
INSERT INTO timed VALUES ('[1,2)', '[2020-01-01,2021-01-01)');
\endif
INSERT INTO virtually_wide VALUES (1), (2);

-- Rows that change while the table is under churn: dead rows, holes.
CREATE TABLE churned (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
INSERT INTO churned SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 20000) g;
DELETE FROM churned WHERE id % 3 = 0;
UPDATE churned SET body = 'short ' || id WHERE id % 7 = 0;

-- Partitions and inheritance.
CREATE TABLE part (k int, at date, body text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE part_old (at date NOT NULL, gone text, body text, k int NOT NULL);
ALTER TABLE part_old DROP COLUMN gone;
ALTER TABLE part ATTACH PARTITION part_old FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2030-01-01') PARTITION BY LIST (k);
CREATE TABLE part_new_1 PARTITION OF part_new FOR VALUES IN (1, 2);
CREATE TABLE part_new_other PARTITION OF part_new DEFAULT;
CREATE TABLE part_default PARTITION OF part DEFAULT;
INSERT INTO part SELECT g % 5, date '2015-01-01' + g * 20, 'b' || g FROM generate_series(1, 400) g;
CREATE INDEX part_body ON part (body);
CREATE TABLE by_mood (m shop.mood, n int) PARTITION BY HASH (m);
CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE by_mood_1 PARTITION OF by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE by_mood_2 PARTITION OF by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 2) PARTITION BY RANGE (n);
CREATE TABLE by_mood_2_all PARTITION OF by_mood_2 DEFAULT;
INSERT INTO by_mood SELECT (enum_range(NULL::shop.mood))[1 + g % 5], g FROM generate_series(1, 200) g;
CREATE TABLE by_hash (a int) PARTITION BY HASH (a);
CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_hash SELECT generate_series(1, 100);
CREATE TABLE parent (a int, b text DEFAULT 'p');
CREATE TABLE child (c int) INHERITS (parent);
CREATE TABLE grandchild (d text) INHERITS (child);
ALTER TABLE parent ADD COLUMN late int DEFAULT 9;
INSERT INTO parent VALUES (1);
INSERT INTO child (a, c) VALUES (2, 3);
INSERT INTO grandchild (a, c, d) VALUES (4, 5, 'g');

-- Constraints: cycles, deferred, exclusion, not valid; a check that looks elsewhere.
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
INSERT INTO hen VALUES (1, 1);
INSERT INTO egg VALUES (1, 1);
ALTER TABLE hen ADD CONSTRAINT first_egg FOREIGN KEY (egg) REFERENCES egg ON DELETE CASCADE DEFERRABLE;
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree);
INSERT INTO tree SELECT g, nullif(1000 - g, 0) FROM generate_series(1, 999) g;
CREATE TABLE booked (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO booked VALUES (1, '[2020-01-01,2020-01-02)');
CREATE TABLE loose (a int);
INSERT INTO loose VALUES (-1);
ALTER TABLE loose ADD CONSTRAINT not_negative CHECK (a >= 0) NOT VALID;
CREATE TABLE nulls_alike (a int UNIQUE NULLS NOT DISTINCT);
CREATE FUNCTION looks_elsewhere(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true FROM public.hen LIMIT 1';

-- Indexes and statistics.
CREATE INDEX vals_expression ON shop.vals (lower(a_citext::text) DESC NULLS LAST) INCLUDE (a_date) WHERE a_positive > 0;
CREATE INDEX vals_gin ON shop.vals USING gin (a_jsonb jsonb_path_ops);
CREATE UNIQUE INDEX churned_both ON churned (id, md5(body));
ALTER TABLE churned CLUSTER ON churned_both;
ALTER TABLE far REPLICA IDENTITY FULL;
ALTER TABLE egg REPLICA IDENTITY USING INDEX egg_pkey;
COMMENT ON INDEX churned_both IS E'by both;\n-- TOC entry 1 (class 2 OID 3)\n;';
COMMENT ON CONSTRAINT tree_pkey ON tree IS 'a key';
COMMENT ON INDEX tree_pkey IS 'the index of a key';
COMMENT ON CONSTRAINT first_egg ON hen IS 'a circle';
ALTER INDEX shop.vals_expression ALTER COLUMN 1 SET STATISTICS 400;
CREATE STATISTICS shop.both_sides (ndistinct, mcv) ON a_date, a_mood FROM shop.vals;
CREATE STATISTICS shop.of_expression ON (a_positive % 3) FROM shop.vals;

-- Views, one on another; materialized ones; rules; triggers.
CREATE VIEW shop.seen WITH (security_barrier) AS SELECT id, a_text FROM shop.vals WHERE a_positive > 0 WITH LOCAL CHECK OPTION;
CREATE VIEW public.ring AS SELECT 1 AS a, 'x'::text AS b;
CREATE VIEW public.ring_2 AS SELECT * FROM ring;
CREATE OR REPLACE VIEW public.ring AS SELECT a, b FROM (SELECT 2 AS a, 'y'::text AS b) AS s;
CREATE RECURSIVE VIEW up(n) AS SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 5;
CREATE MATERIALIZED VIEW z_first AS SELECT count(*) AS n FROM churned;
CREATE MATERIALIZED VIEW a_second AS SELECT n * 2 AS n FROM z_first;
CREATE MATERIALIZED VIEW never AS SELECT * FROM a_second WITH NO DATA;
CREATE UNIQUE INDEX a_second_n ON a_second (n);
CREATE TABLE log (at timestamptz DEFAULT '2020-01-01', what text);
CREATE RULE hen_log AS ON UPDATE TO hen DO ALSO INSERT INTO log (what) VALUES ('hen');
CREATE RULE egg_none AS ON DELETE TO egg WHERE old.id < 0 DO INSTEAD NOTHING;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.log (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NEW; END $$;
CREATE TRIGGER "tr%g" BEFORE INSERT OR UPDATE OF a_text ON shop.vals FOR EACH ROW WHEN (NEW.a_text IS NOT NULL) EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON egg DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER on_part AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER off BEFORE INSERT ON far FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE far DISABLE TRIGGER off;
ALTER TABLE part_old ENABLE ALWAYS TRIGGER on_part;
CREATE TRIGGER every_row AFTER UPDATE ON churned REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log (what) VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER watch_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX') EXECUTE FUNCTION on_ddl();

-- Row security.
CREATE TABLE secret (who name, what text);
INSERT INTO secret VALUES ('postgres', 'a'), ('writer', 'b');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret AS RESTRICTIVE FOR SELECT TO writer, reader USING (who = current_user);
CREATE POLICY any_insert ON secret FOR INSERT WITH CHECK (what <> '');
GRANT ALL ON secret TO writer;
ALTER TABLE secret OWNER TO owner_of_things;

-- Sequences of every kind.
CREATE SEQUENCE shop.seq AS smallint START 5 INCREMENT -3 MINVALUE -500 MAXVALUE 10 CYCLE CACHE 4;
SELECT nextval('shop.seq') \g /dev/null
SELECT nextval('shop.seq') \g /dev/null
CREATE SEQUENCE untouched;
CREATE TABLE with_serial (id serial, big bigint GENERATED BY DEFAULT AS IDENTITY);
INSERT INTO with_serial SELECT FROM generate_series(1, 10);
SELECT setval('with_serial_id_seq', 77, false) \g /dev/null
CREATE UNLOGGED SEQUENCE scratch_seq;
GRANT USAGE ON SEQUENCE shop.seq TO reader;

-- Large objects, with owner, rights and comment.
SELECT lo_from_bytea(424242, '\x00010203ff5c0a'), lo_from_bytea(424243, decode(repeat('ab', 700000), 'hex')), lo_create(424244) \g /dev/null
COMMENT ON LARGE OBJECT 424242 IS 'a large object';
GRANT SELECT ON LARGE OBJECT 424242 TO reader;
ALTER LARGE OBJECT 424243 OWNER TO writer;
CREATE TABLE holds_lo (raster lo);
INSERT INTO holds_lo VALUES (424242);
CREATE TRIGGER t_raster BEFORE UPDATE OR DELETE ON holds_lo FOR EACH ROW EXECUTE FUNCTION lo_manage(raster);

-- Elsewhere: foreign data, publications, subscriptions.
CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid', dbname 'x''y');
CREATE USER MAPPING FOR writer SERVER there OPTIONS (user 'u', password 'p');
CREATE FOREIGN TABLE far_away (a int OPTIONS (column_name 'b'), t text) SERVER there OPTIONS (table_name 'T');
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE of_file (line text) SERVER files OPTIONS (filename '/nonexistent');
CREATE FOREIGN TABLE far_child () INHERITS (parent) SERVER there;
GRANT USAGE ON FOREIGN SERVER there TO writer;
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, delete');
CREATE PUBLICATION of_churned FOR TABLE churned (id) WHERE (id > 5);
CREATE PUBLICATION of_shop FOR TABLES IN SCHEMA shop;
CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere.invalid dbname=x' PUBLICATION p, q WITH (connect = false, slot_name = NONE);
\if :is17
ALTER TABLE loose ADD COLUMN merged text;
\endif
\if :is16
GRANT reader TO owner_of_things WITH INHERIT FALSE, SET FALSE;
\endif

-- A database whose name needs every kind of care.
\connect -reuse-previous=on "dbname='A \'thing\' ""works"" \\here % =é'"
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t VALUES (1, 'in the oddly named one');
COMMENT ON TABLE t IS 'DATABASE t';
CREATE SCHEMA "DATABASE x";
COMMENT ON SCHEMA "DATABASE x" IS 'looks like a database''s';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO writer;

-- Bytes that are text in no encoding.
\connect -reuse-previous=on "dbname=bytes"
CREATE TABLE raw (a text, "b" text);
DO $$ BEGIN
    EXECUTE 'INSERT INTO raw VALUES ($1, $2)' USING convert_from('\xe9e80a5c80ff', 'SQL_ASCII'), convert_from('\xc3a9', 'SQL_ASCII');
    EXECUTE format('COMMENT ON TABLE raw IS %L', convert_from('\xe9ff', 'SQL_ASCII'));
END $$;
INSERT INTO raw SELECT convert_from(decode(to_hex(128 + g), 'hex'), 'SQL_ASCII'), g::text FROM generate_series(0, 127) g;

-- Another encoding, with a name in it.
\connect -reuse-previous=on "dbname=latin"
SET client_encoding = 'UTF8';
CREATE TABLE "täble" ("cölumn" text, plain text);
INSERT INTO "täble" VALUES ('Grüße', 'ÿ'), (E'\u00e9\t\u00ff', NULL);
CREATE TYPE "möod" AS ENUM ('fröh', 'träge');
CREATE TABLE moody (m "möod", "çolumn" text);
INSERT INTO moody VALUES ('fröh', 'ÿ'), ('träge', E'\u00e9\\');
\connect -reuse-previous=on "dbname=postgres"
