-- Carries out one write on one session, wholly or not at all, and says OK, or why not:
--   FENCED     another daemon owns the shard by now
--   DUPLICATE  this very operation was carried out before: its reply was lost
--   CONFLICT   the session is not at the revision that the write names
--
-- KEYS  the session, the sessions of its scope, the index of its shard, the owner of the shard, its tombstone, the feed
-- ARGV  verb, epoch, operation, revision, session key, deadline, time to live (ms), what those who watch are told of it
--       (empty: nothing), how many entries the feed keeps, number of fields to delete, the fields to delete, the fields
--       to set with their values
--
-- The feed gets, in an entry of its own, what they are told and the session, as it is after the write or, if that
-- removes it, as it was before; without its hidden parts.
--
-- Verbs: CREATE   at revision 0, which says that there is none; the fields to delete, if there are any, are the keys of
--                 those that the scope may have
--        CONFIRM  creates a session where this very operation has reserved its key, if it still has
--        CHANGE   sets and deletes some fields
--        REPLACE  sets all fields anew
--        RESTORE  sets all fields, and the revision, of a session that was lost or has fallen behind, not removed
--        DELETE   leaves a tombstone with the operations, so that none of them is carried out again
local session, scope, index, owner, gone, feed = unpack(KEYS)
local verb, epoch, operation, revision, key, deadline, ttl, note, kept, drops = unpack(ARGV, 1, 10)
local first_put = 11 + drops
local hidden = { credit = true, monitor = true, effect = true, request = true }

local function shown()
  local fields, left = redis.call('HGETALL', session), {}
  for at = 1, #fields, 2 do
    local name = fields[at]
    if name ~= 'operations' and name ~= 'number' and name ~= 'meter' and not hidden[string.match(name, '^(%a+):')] then
      left[#left + 1] = name
      left[#left + 1] = fields[at + 1]
    end
  end
  return left
end

local function tell(fields)
  redis.call('XADD', feed, 'MAXLEN', '~', kept, '*', 'note', note, unpack(fields))
end

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

if verb == 'CREATE' and first_put > 11 then
  local may = {}
  for at = 11, first_put - 1 do
    may[ARGV[at]] = true
  end
  for _, other in ipairs(redis.call('ZRANGE', scope, 0, -1)) do
    if not may[other] then
      return 'CONFLICT'
    end
  end
end

-- The newest operations come first. The oldest is cut in two and without its last blank no operation any more.
operations = string.sub(' ' .. operation .. operations, 1, 160)

if verb == 'DELETE' then
  -- A server without memory takes no tombstone. The session goes all the same; then a repeat finds a conflict.
  redis.pcall('SET', gone, operations, 'PX', ttl)
  local last = shown()
  redis.call('DEL', session)
  tell(last)
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
  if first_put > 11 then
    redis.call('HDEL', session, unpack(ARGV, 11, first_put - 1))
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
if note ~= '' then
  tell(shown())
end
return 'OK'
