-- Puts entries of the feeds of a cluster in the one order of the log, each once, those of one feed in their order.
--
-- KEYS  the log, up to where each feed is in it
-- ARGV  how many entries the log keeps, then for each entry its slot and its id
local function parts(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(time), tonumber(number)
end

for at = 2, #ARGV, 2 do
  local slot, id = ARGV[at], ARGV[at + 1]
  local time, number = parts(id)
  local last_time, last_number = parts(redis.call('HGET', KEYS[2], slot) or '0-0')
  if time > last_time or (time == last_time and number > last_number) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'slot', slot, 'id', id)
    redis.call('HSET', KEYS[2], slot, id)
  end
end
return 'OK'
