"""The scripts of `RedisCursorStore`, in Lua. Each is one step that nothing interrupts. Pure.

Times are in milliseconds of the server's clock. All keys have one hash tag, so that a cluster keeps
them on one node.

A job's row is a hash: `version`, `owner`, `epoch`, `expires` (of the lease), and once a position is
saved `text`, `finished` and `saved`. A submission's row: `version`, `name`, `status`, `job_id`,
`detail`, `owner`, `epoch`, `expires`, `created`. The set of jobs, and for each status the set of
submissions, are there to list them. Those whose job is known to be finished are in a set of their
own, `finished`, and not in that of `submitted`.
"""

from __future__ import annotations

VERSION = 1  # of the rows

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
"""

_REFUSE_NEWER = f"""
local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) > {VERSION} then return {{'newer', version}} end
"""

# KEYS: the job's row, the set of jobs. ARGV: job, owner, time to live.
TAKE = f"""{_NOW}{_REFUSE_NEWER}
local row = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'expires', 'text')
if row[3] and tonumber(row[3]) > now then return {{'held', row[1], tonumber(row[3]) - now}} end
local epoch = (row[2] or 0) + 1
redis.call('HSET', KEYS[1], 'version', {VERSION}, 'owner', ARGV[2], 'epoch', text(epoch),
    'expires', text(now + ARGV[3]))
redis.call('SADD', KEYS[2], ARGV[1])
return {{'taken', epoch, row[4]}}
"""

# KEYS: rows of jobs. ARGV: owner, time to live, an epoch for each row.
# Returns for each row 1, or 0 where the lease is no longer held.
RENEW = f"""{_NOW}
local held = {{}}
for i, key in ipairs(KEYS) do
    local row = redis.call('HMGET', key, 'owner', 'epoch', 'expires')
    held[i] = 0
    if row[1] == ARGV[1] and row[2] == ARGV[i + 2] and tonumber(row[3]) > now then
        redis.call('HSET', key, 'expires', text(now + ARGV[2]))
        held[i] = 1
    end
end
return held
"""

# KEYS: rows of jobs. ARGV: for each row owner, epoch, text and 1 if the job is finished.
# Returns for each row 1, or 0 where the save is refused, or -1 where the row is gone.
SAVE = f"""{_NOW}
local kept = {{}}
for i, key in ipairs(KEYS) do
    local at = (i - 1) * 4
    local row = redis.call('HMGET', key, 'owner', 'epoch')
    if not row[1] then
        kept[i] = -1
    elseif row[1] == ARGV[at + 1] and row[2] == ARGV[at + 2] then
        redis.call('HSET', key, 'text', ARGV[at + 3], 'finished', ARGV[at + 4], 'saved', text(now))
        kept[i] = 1
    else
        kept[i] = 0
    end
end
return kept
"""

# KEYS: the job's row. ARGV: owner, epoch.
RELEASE = """
local row = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if row[1] == ARGV[1] and row[2] == ARGV[2] then redis.call('HSET', KEYS[1], 'expires', 0) end
"""

# KEYS: rows of jobs. Returns for each row owner, epoch, milliseconds until the lease ends and
# since the last save, and 1 if the job is finished; an empty list where there is no row.
HOLDERS = f"""{_NOW}
local found = {{}}
for i, key in ipairs(KEYS) do
    local row = redis.call('HMGET', key, 'owner', 'epoch', 'expires', 'saved', 'finished')
    found[i] = {{}}
    if row[1] then
        local ago = row[4] and now - row[4]
        local finished = row[5] == '1' and 1 or 0
        found[i] = {{row[1], row[2] + 0, row[3] - now, finished, ago}}
    end
end
return found
"""

# KEYS: the members. Returns who is there: name, milliseconds, name, milliseconds, and so on.
_LIST_MEMBERS = """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf', 'WITHSCORES')
for i = 2, #found, 2 do found[i] = found[i] - now end
return found
"""
MEMBERS = f"{_NOW}{_LIST_MEMBERS}"

# The same after a process has said that it is there. ARGV: owner, time to live.
JOIN = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
redis.call('ZADD', KEYS[1], text(now + ARGV[2]), ARGV[1])
{_LIST_MEMBERS}
"""

# Returns name, status, job, detail, owner, epoch, and milliseconds: until the lease ends, and since
# the row was made.
_INTENT = """
local function intent(key)
    local row = redis.call('HMGET', key, 'name', 'status', 'job_id', 'detail', 'owner', 'epoch',
        'expires', 'created')
    return {row[1], row[2], row[3], row[4], row[5], row[6] + 0, row[7] - now, now - row[8]}
end
"""

# KEYS: the submission's row, the set of those with status `submitting`. ARGV: key, name, owner,
# time to live. Returns 1 if the lease was taken, and the row.
OPEN_SUBMISSION = f"""{_NOW}{_INTENT}{_REFUSE_NEWER}
if not version then
    redis.call('HSET', KEYS[1], 'version', {VERSION}, 'name', ARGV[2], 'status', 'submitting',
        'job_id', '', 'detail', '', 'epoch', 0, 'expires', 0, 'created', text(now))
    redis.call('ZADD', KEYS[2], text(time[1] * 1000000 + time[2]), ARGV[1])
end
local row = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'expires')
local mine = 0
if (row[1] == 'submitting' or row[1] == 'unknown') and tonumber(row[3]) <= now then
    redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'epoch', text(row[2] + 1),
        'expires', text(now + ARGV[4]))
    mine = 1
end
return {{'found', mine, intent(KEYS[1])}}
"""

# KEYS: the submission's row, the sets of all statuses, in the last place that of the new status.
# ARGV: key, owner, epoch, status, job, detail. Returns 1, or 0 where another one has the lease.
CLOSE_SUBMISSION = f"""{_REFUSE_NEWER}
local row = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if row[1] ~= ARGV[2] or row[2] ~= ARGV[3] then return {{'found', 0}} end
redis.call('HSET', KEYS[1], 'status', ARGV[4], 'job_id', ARGV[5], 'detail', ARGV[6], 'expires', 0)
local created = 0
for i = 2, #KEYS - 1 do
    created = redis.call('ZSCORE', KEYS[i], ARGV[1]) or created
    redis.call('ZREM', KEYS[i], ARGV[1])
end
redis.call('ZADD', KEYS[#KEYS], created, ARGV[1])
return {{'found', 1}}
"""

# KEYS: the submission's row, the sets of all statuses. ARGV: key. Returns 1 if it was removed.
FORGET_SUBMISSION = f"""{_NOW}{_REFUSE_NEWER}
local row = redis.call('HMGET', KEYS[1], 'status', 'expires')
if not row[1] or row[1] == 'submitted' or tonumber(row[2]) > now then return {{'found', 0}} end
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
return {{'found', 1}}
"""

# KEYS: two sets of submissions. ARGV: keys that are moved from the one to the other.
MOVE_SUBMISSIONS = """
for _, key in ipairs(ARGV) do
    local created = redis.call('ZSCORE', KEYS[1], key)
    if created then
        redis.call('ZREM', KEYS[1], key)
        redis.call('ZADD', KEYS[2], created, key)
    end
end
return 1
"""

# KEYS: the job's row, the set of jobs, the sets of all submissions, the rows of those of the job.
# ARGV: milliseconds since the last save at least, job, the keys of those submissions. Returns 1 if
# all of it was removed, or 0 where the job is followed again, or of a newer version.
PRUNE = f"""{_NOW}
local row = redis.call('HMGET', KEYS[1], 'version', 'finished', 'expires', 'saved')
if row[2] ~= '1' or tonumber(row[1]) > {VERSION} then return 0 end
if tonumber(row[3]) > now or tonumber(row[4]) > now - ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
local first = #KEYS - #ARGV + 3
for i = first, #KEYS do
    redis.call('DEL', KEYS[i])
    for list = 3, first - 1 do redis.call('ZREM', KEYS[list], ARGV[i - first + 3]) end
end
return 1
"""

# KEYS: rows of submissions. Returns them.
SUBMISSIONS = f"""{_NOW}{_INTENT}
local found = {{}}
for i, key in ipairs(KEYS) do
    found[i] = {{}}
    if redis.call('EXISTS', key) == 1 then found[i] = intent(key) end
end
return found
"""
