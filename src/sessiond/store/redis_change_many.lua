-- Changes many sessions, each wholly or not at all, and tells nobody of it. Says FENCED if another daemon owns one of the
-- shards by now, and nothing is written; else one letter for each session:
--   O  it is written, or it was by this very operation, whose reply was lost
--   C  CONFLICT: the session is not at the revision that the command names
--
-- KEYS  the owners of the shards; for each session: itself, its tombstone, the index of its shard
-- ARGV  epoch, number of owners, operation; for each session: its key, revision, deadline, number of fields to delete,
--       number of what follows them, the fields to delete, the fields to set with their values
local epoch, owners, operation = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
for index = 1, owners do
  if tonumber(redis.call('GET', KEYS[index]) or 0) > epoch then
    return 'FENCED'
  end
end

local words, at, mark = {}, 4, ' ' .. operation .. ' '

local function known_in(text)
  return text and string.find(text, mark, 1, true)
end

for first = owners + 1, #KEYS, 3 do
  local session, gone, index = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  local key, revision, deadline, drops, puts = unpack(ARGV, at, at + 4)
  local first_put = at + 5 + drops
  local known = redis.call('HMGET', session, 'revision', 'operations')
  local present, operations = known[1], known[2]
  if known_in(operations) then
    words[#words + 1] = 'O'
  elseif present ~= revision then
    words[#words + 1] = known_in(redis.call('GET', gone)) and 'O' or 'C'
  else
    operations = string.sub(' ' .. operation .. (operations or ' '), 1, 160)
    local last = first_put + puts - 1
    redis.call('HSET', session, 'operations', operations, 'revision', revision + 1, unpack(ARGV, first_put, last))
    if drops ~= '0' then
      redis.call('HDEL', session, unpack(ARGV, at + 5, first_put - 1))
    end
    redis.call('ZADD', index, deadline, key)
    words[#words + 1] = 'O'
  end
  at = first_put + puts
end
return table.concat(words)
