-- Carries out one write on one session, wholly or not at all, and says OK, or why not:
--   FENCED     another daemon owns the shard by now
--   DUPLICATE  this very operation was carried out before: its reply was lost
--   CONFLICT   the session is not at the revision that the write names
--
-- KEYS  the session, the sessions of its scope, the index of its shard, the owner of the shard, its tombstone
-- ARGV  verb, epoch, operation, revision, session key, deadline, time to live (ms), number of fields to delete,
--       the fields to delete, the fields to set with their values
--
-- Verbs: CREATE   at revision 0, which says that there is none
--        CONFIRM  creates a session where this very operation has reserved its key, if it still has
--        CHANGE   sets and deletes some fields
--        REPLACE  sets all fields anew
--        RESTORE  sets all fields, and the revision, of a session that was lost or has fallen behind, not removed
--        DELETE   leaves a tombstone with the operations, so that none of them is carried out again
local session, scope, index, owner, gone = unpack(KEYS)
local verb, epoch, operation, revision, key, deadline, ttl, drops = unpack(ARGV, 1, 8)
local first_put = 9 + drops

if tonumber(redis.call('GET', owner) or 0) > tonumber(epoch) then
  return 'FENCED'
end

local known = redis.call('HMGET', session, 'revision', 'operations', 'number')
local present, operations, number = known[1] or '0', known[2] or ' ', known[3]
local mark = ' ' .. operation .. ' '
local tombstone = redis.call('GET', gone)
if string.find(operations, mark, 1, true) or string.find(tombstone or '', mark, 1, true) then
  return 'DUPLICATE'
end
if verb == 'CONFIRM' then
  if redis.call('HGET', session, 'reserved') ~= operation then
    return 'CONFLICT'
  end
  verb = 'CREATE'
end
if verb == 'RESTORE' then
  if tombstone or tonumber(present) >= tonumber(revision) then
    return 'CONFLICT'
  end
elseif present ~= revision or (verb == 'CREATE') ~= (revision == '0') then
  return 'CONFLICT'
end

-- The newest operations come first. The oldest is cut in two and without its last blank no operation any more.
operations = string.sub(' ' .. operation .. operations, 1, 160)

if verb == 'DELETE' then
  -- A server without memory takes no tombstone. The session goes all the same; then a repeat finds a conflict.
  redis.pcall('SET', gone, operations, 'PX', ttl)
  redis.call('DEL', session)
  redis.call('ZREM', scope, key)
  redis.call('ZREM', index, key)
  return 'OK'
end

-- The first write of the script is one that a server without memory refuses, so that nothing is done by halves.
redis.call('HSET', session, 'operations', operations)
if verb ~= 'RESTORE' then
  revision = revision + 1
end
if verb == 'CHANGE' then
  if first_put > 9 then
    redis.call('HDEL', session, unpack(ARGV, 9, first_put - 1))
  end
else
  number = number or (redis.call('ZREVRANGE', scope, 0, 0, 'WITHSCORES')[2] or 0) + 1
  redis.call('DEL', session)
  redis.call('HSET', session, 'operations', operations, 'number', number)
  redis.call('ZADD', scope, number, key)
  redis.call('PEXPIRE', scope, ttl * 2)
end
redis.call('HSET', session, 'revision', revision, unpack(ARGV, first_put))
redis.call('ZADD', index, deadline, key)
if verb ~= 'CHANGE' then
  redis.call('PEXPIRE', session, ttl)
end
return 'OK'
