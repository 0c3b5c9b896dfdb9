-- Hands sessions over to the keeper, or strikes those off that it looks after and that were not handed over again.
--
-- KEYS  the work: sorted set of session keys, by when they were handed over last; the count of that
-- ARGV  HAND and session keys, or TAKE and pairs of a session key and its number
if ARGV[1] == 'HAND' then
  local number = redis.call('INCR', KEYS[2])
  for at = 2, #ARGV do
    redis.call('ZADD', KEYS[1], number, ARGV[at])
  end
else
  for at = 2, #ARGV, 2 do
    if redis.call('ZSCORE', KEYS[1], ARGV[at]) == ARGV[at + 1] then
      redis.call('ZREM', KEYS[1], ARGV[at])
    end
  end
end
return 'OK'
