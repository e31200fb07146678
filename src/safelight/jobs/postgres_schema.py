"""What a queue has in PostgreSQL: tables, triggers, and the functions that change several tables at once.

No two who submit touch the same row, so none waits for another. What they would have to share, the lanes of
hosts and the tallies, they only append to (`arrivals`, `tally_changes`); one session at a time folds that in.
The fixed price of a lease is a lock that one statement holds, never a client between two.
"""

from typing import TYPE_CHECKING, TypeAlias

from safelight.errors import StorageError

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""With or without a pool behind it."""

VERSION = 1
SCHEMA = "safelight_jobs"
MADE_READY_AT_ONCE = 1000
SCHEMA_LOCK, LEASE_LOCK, TALLY_LOCK = 7091230101, 7091230102, 7091230103
"""Advisory locks of the database; others who use it may be expected not to choose these numbers."""

# A plan that was made while the table looked otherwise would read all waiting jobs to find the first.
_BY_INDEX = "SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off"

_TABLES = f"""
CREATE TABLE format (version integer NOT NULL);
INSERT INTO format VALUES ({VERSION});

-- Seconds that have passed while at least one process used the queue, as their monotonic clocks say.
CREATE TABLE clock (seconds double precision NOT NULL);
INSERT INTO clock VALUES (0);

CREATE SEQUENCE job_numbers;
CREATE TABLE jobs (
    seq         bigint PRIMARY KEY DEFAULT nextval('job_numbers'),  -- the order of acceptance
    id          uuid NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),  -- for people
    ended_at    timestamptz,                                     -- for people and for pruning
    host        text COLLATE "C" NOT NULL,
    priority    integer NOT NULL,
    key         text COLLATE "C",
    batch       text COLLATE "C",
    webhook     boolean NOT NULL,  -- whether a notice is due when it ends
    content     bytea NOT NULL,    -- the order as JSON
    footprint   bytea NOT NULL,    -- what has been done outside, as JSON
    state       text NOT NULL DEFAULT 'waiting',
    attempts    integer NOT NULL DEFAULT 0,
    reason      text,
    due         double precision,  -- by `clock`; NULL is now
    fence       bigint NOT NULL DEFAULT 0,
    owner       text,
    beat        bigint NOT NULL DEFAULT 0,  -- grows whenever the lease is extended
    lease_s     double precision,
    expires_at  timestamptz        -- for people
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL;
CREATE INDEX jobs_by_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX ready_jobs ON jobs (host, priority DESC, seq) WHERE state = 'waiting' AND due IS NULL;
CREATE INDEX delayed_jobs ON jobs (due) WHERE state = 'waiting' AND due IS NOT NULL;
CREATE INDEX running_jobs ON jobs (host) WHERE state = 'running';
CREATE INDEX ended_jobs ON jobs (state, ended_at) WHERE ended_at IS NOT NULL;

-- Hosts with jobs that are ready. No job of a host is better than its lane says, but for those that have an
-- arrival, or that somebody was changing; a lane may be too good. A host at its limit costs one row, however
-- many jobs it has.
CREATE TABLE lanes (
    host  text COLLATE "C" PRIMARY KEY,
    rank  integer NOT NULL,  -- minus the priority: the smallest goes first
    seq   bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX lanes_in_order ON lanes (rank, seq);

-- The best of the jobs that one statement has made ready, for each host.
CREATE TABLE arrivals (
    host      text COLLATE "C" NOT NULL,
    priority  integer NOT NULL,
    seq       bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How many jobs are in each state, of each batch and under '' of all: the sum of both tables.
CREATE TABLE tallies (
    batch  text COLLATE "C" NOT NULL,
    state  text NOT NULL,
    jobs   bigint NOT NULL,
    PRIMARY KEY (batch, state)
);
CREATE TABLE tally_changes (
    batch   text COLLATE "C",
    was     text,  -- NULL: the jobs are new
    became  text,  -- NULL: they were forgotten
    jobs    bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""  # noqa: S608 (numbers and names of ours, here and below)

_TRIGGERS = """
CREATE FUNCTION jobs_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO arrivals
        SELECT DISTINCT ON (host) host, priority, seq FROM added ORDER BY host, priority DESC, seq;
    INSERT INTO tally_changes SELECT batch, NULL, state, count(*) FROM added GROUP BY batch, state;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_added AFTER INSERT ON jobs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_added();

CREATE FUNCTION job_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally_changes VALUES (new.batch, old.state, new.state, 1);
    RETURN NULL;
END $$;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (new.state <> old.state) EXECUTE FUNCTION job_moved();

CREATE FUNCTION job_ready() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO arrivals VALUES (new.host, new.priority, new.seq);
    RETURN NULL;
END $$;
CREATE TRIGGER job_ready AFTER UPDATE OF state, due ON jobs
    FOR EACH ROW WHEN (new.state = 'waiting' AND new.due IS NULL
                       AND NOT (old.state = 'waiting' AND old.due IS NULL))
    EXECUTE FUNCTION job_ready();

CREATE FUNCTION jobs_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally_changes SELECT batch, state, NULL, count(*) FROM forgotten GROUP BY batch, state;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_forgotten AFTER DELETE ON jobs REFERENCING OLD TABLE AS forgotten
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_forgotten();
"""

_FUNCTIONS = f"""
-- Accept orders, each given by one element of all arrays; the ids that they then have, in sequence. Rows go
-- in sorted by key, so that two who bring the same keys wait for each other in one direction only.
CREATE FUNCTION accept(ids uuid[], hosts text[], priorities integer[], keys text[], batches text[],
                       webhooks boolean[], contents bytea[], footprints bytea[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    accepted uuid[];
BEGIN
    WITH given AS MATERIALIZED (
        SELECT nextval('job_numbers') AS seq, given.*
        FROM unnest(ids, hosts, priorities, keys, batches, webhooks, contents, footprints)
            AS given (id, host, priority, key, batch, webhook, content, footprint)
    )
    INSERT INTO jobs (seq, id, host, priority, key, batch, webhook, content, footprint)
        SELECT seq, id, host, priority, key, batch, webhook, content, footprint
        FROM given ORDER BY key, seq
        ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING;
    SELECT array_agg(CASE WHEN key IS NULL THEN id ELSE (SELECT j.id FROM jobs j WHERE j.key = given.key) END
                     ORDER BY number)
        INTO accepted FROM unnest(ids, keys) WITH ORDINALITY AS given (id, key, number);
    IF array_position(accepted, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a job with a known key was forgotten just now' USING ERRCODE = '40001';
    END IF;
    RETURN accepted;
END $$;

-- What a process must know now and then; its reading of the clock moves the common one on.
CREATE FUNCTION look(INOUT seconds double precision, OUT started timestamptz, OUT running json)
LANGUAGE plpgsql {_BY_INDEX} AS $$
DECLARE
    known double precision := (SELECT clock.seconds FROM clock);
BEGIN
    IF seconds > known + 1 THEN
        SET LOCAL synchronous_commit = off;
        UPDATE clock SET seconds = look.seconds WHERE clock.seconds < look.seconds;
    END IF;
    seconds := greatest(seconds, known);
    started := pg_postmaster_start_time();
    running := (SELECT coalesce(json_agg(json_build_array(seq, fence, beat, lease_s)), '[]')
                FROM jobs WHERE state = 'running');
END $$;

-- Fold arrivals into lanes; whoever calls it holds LEASE_LOCK.
CREATE FUNCTION fold_arrivals() RETURNS void LANGUAGE sql AS $$
    WITH folded AS (DELETE FROM arrivals RETURNING *)
    INSERT INTO lanes
        SELECT DISTINCT ON (host) host, -priority, seq FROM folded ORDER BY host, priority DESC, seq
        ON CONFLICT (host) DO UPDATE SET rank = excluded.rank, seq = excluded.seq
        WHERE (excluded.rank, excluded.seq) < (lanes.rank, lanes.seq)
$$;

-- Fold `tally_changes` into `tallies`; whoever calls it holds TALLY_LOCK.
CREATE FUNCTION fold_tallies() RETURNS void LANGUAGE sql AS $$
    WITH folded AS (DELETE FROM tally_changes RETURNING *),
    steps AS (
        SELECT batch, became AS state, jobs FROM folded WHERE became IS NOT NULL
        UNION ALL SELECT batch, was, -jobs FROM folded WHERE was IS NOT NULL
    )
    INSERT INTO tallies
        SELECT batch, state, sum(jobs) FROM (
            SELECT '' AS batch, state, jobs FROM steps
            UNION ALL SELECT batch, state, jobs FROM steps WHERE batch IS NOT NULL
        ) AS both_of_them GROUP BY batch, state
        ON CONFLICT (batch, state) DO UPDATE SET jobs = tallies.jobs + excluded.jobs;
    DELETE FROM tallies WHERE jobs = 0
$$;

-- Fold whatever nobody else is folding just now.
CREATE FUNCTION fold() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_xact_lock({TALLY_LOCK}) THEN
        PERFORM fold_tallies();
    END IF;
    IF pg_try_advisory_xact_lock({LEASE_LOCK}) THEN
        PERFORM fold_arrivals();
    END IF;
END $$;

-- `stalled`: numbers, fences and beats of the jobs whose leases have been seen to expire.
CREATE FUNCTION lease(worker text, wanted integer, lease_seconds double precision, per_host integer,
                      seconds double precision, stalled bigint[], fences bigint[], beats bigint[])
RETURNS SETOF jobs LANGUAGE plpgsql {_BY_INDEX} AS $$
DECLARE
    full_hosts jsonb;
    lane lanes;
    head record;
    passed_rank integer := -1000;
    passed_seq bigint := 0;
    left_over integer := wanted;
    next_due double precision :=
        (SELECT due FROM jobs WHERE state = 'waiting' AND due IS NOT NULL ORDER BY due LIMIT 1);
BEGIN
    IF cardinality(stalled) = 0 AND (next_due IS NULL OR next_due > seconds)
            AND NOT EXISTS (SELECT FROM lanes) AND NOT EXISTS (SELECT FROM arrivals) THEN
        RETURN;
    END IF;
    -- One at a time, or two would each find room for one more job of a host. Held until the commit is seen.
    PERFORM pg_advisory_xact_lock({LEASE_LOCK});

    UPDATE jobs SET due = NULL WHERE seq = ANY (ARRAY(
        SELECT seq FROM jobs WHERE state = 'waiting' AND due IS NOT NULL AND due <= seconds
        ORDER BY due LIMIT {MADE_READY_AT_ONCE} FOR UPDATE SKIP LOCKED));
    UPDATE jobs SET state = 'waiting', owner = NULL, lease_s = NULL, expires_at = NULL WHERE seq = ANY (ARRAY(
        SELECT jobs.seq FROM unnest(stalled, fences, beats) AS seen (seq, fence, beat)
            JOIN jobs ON jobs.seq = seen.seq AND jobs.fence = seen.fence AND jobs.beat = seen.beat
        WHERE jobs.state = 'running' FOR UPDATE OF jobs SKIP LOCKED));
    PERFORM fold_arrivals();

    full_hosts := (SELECT coalesce(jsonb_object_agg(host, 1), '{{}}') FROM (
        SELECT host FROM jobs WHERE state = 'running' AND host <> ''
        GROUP BY host HAVING count(*) >= per_host) AS counted);
    WHILE left_over > 0 LOOP
        -- Lanes move back only, and hosts stay full, so those passed over need not be looked at again.
        SELECT * INTO lane FROM lanes
            WHERE (rank, seq) >= (passed_rank, passed_seq) AND NOT full_hosts ? host
            ORDER BY rank, seq LIMIT 1;
        EXIT WHEN NOT FOUND;
        passed_rank := lane.rank;
        passed_seq := lane.seq;
        SELECT -priority AS rank, seq INTO head FROM jobs
            WHERE host = lane.host AND state = 'waiting' AND due IS NULL
            ORDER BY host, priority DESC, seq LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            IF EXISTS (SELECT FROM jobs WHERE host = lane.host AND state = 'waiting' AND due IS NULL) THEN
                full_hosts := full_hosts || jsonb_build_object(lane.host, 1);  -- its jobs are being changed
            ELSE
                DELETE FROM lanes WHERE host = lane.host;
            END IF;
        ELSIF (head.rank, head.seq) > (lane.rank, lane.seq) THEN
            UPDATE lanes SET rank = head.rank, seq = head.seq WHERE host = lane.host;
        ELSE
            RETURN QUERY UPDATE jobs SET state = 'running', attempts = attempts + 1, fence = fence + 1,
                    owner = worker, beat = 0, lease_s = lease_seconds,
                    expires_at = clock_timestamp() + lease_seconds * interval '1 second'
                WHERE seq = head.seq RETURNING *;
            left_over := left_over - 1;
            IF lane.host <> '' AND (SELECT count(*) FROM jobs WHERE state = 'running' AND host = lane.host)
                    >= per_host THEN
                full_hosts := full_hosts || jsonb_build_object(lane.host, 1);
            END IF;
        END IF;
    END LOOP;
END $$;
"""  # noqa: S608


async def prepare(connection: Connection) -> None:
    """Make everything in one transaction, or check what is there; of several sessions the first makes it.

    Raises: StorageError for a queue of another version, and for a database that cannot hold every text;
    errors of asyncpg.
    """
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise StorageError(f"the database of the job queue has the encoding {encoding}, and must have UTF8")
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        version = await _version(connection)
        if version is None:
            if not await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA):
                await connection.execute(f"CREATE SCHEMA {SCHEMA}")
            await connection.execute(_TABLES + _TRIGGERS + _FUNCTIONS)
        elif version != VERSION:
            raise StorageError(f"the job queue has format {version}, and this Safelight knows {VERSION}")


async def _version(connection: Connection) -> int | None:
    """The format of the queue; None when there is none."""
    if not await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.format"):
        return None
    return await connection.fetchval("SELECT version FROM format")
