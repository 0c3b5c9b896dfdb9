-- Takes a shard over for an epoch and returns the keys of its sessions, and how many changes its feed has; from then on
-- no daemon of an older epoch can write to it. Returns FENCED if it belongs to a newer one.
--
-- KEYS  the owner of the shard, its index, its feed
-- ARGV  epoch
if tonumber(redis.call('GET', KEYS[1]) or 0) > tonumber(ARGV[1]) then
  return 'FENCED'
end
redis.call('SET', KEYS[1], ARGV[1])
return { redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('XLEN', KEYS[3]) }
