-- Writes what was counted for many sessions, each wholly or not at all. Says FENCED if another daemon owns one of the
-- shards by now, and nothing is written; else one letter for each session:
--   O  it is written, or it was by this very command, whose reply was lost
--   C  CONFLICT: the session is not at the revision that the command names
--
-- KEYS  the owners of the shards, the sessions
-- ARGV  epoch, number of owners, for each session: its revision, what was counted
local epoch, owners = tonumber(ARGV[1]), tonumber(ARGV[2])
for index = 1, owners do
  if tonumber(redis.call('GET', KEYS[index]) or 0) > epoch then
    return 'FENCED'
  end
end

local words = {}
for index = 1, #KEYS - owners do
  local session, revision, counted = KEYS[owners + index], ARGV[2 * index + 1], ARGV[2 * index + 2]
  local known = redis.call('HMGET', session, 'revision', 'meter')
  if known[1] == revision then
    redis.call('HSET', session, 'revision', revision + 1, 'meter', counted)
    words[index] = 'O'
  elseif tonumber(known[1] or -1) == revision + 1 and known[2] == counted then
    words[index] = 'O'
  else
    words[index] = 'C'
  end
end
return table.concat(words)
