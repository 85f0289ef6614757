-- KEYS: speeds. ARGV: lane:model, seconds per job, weight of this measurement.
local old = redis.call('HGET', KEYS[1], ARGV[1])
local new = tonumber(ARGV[2])
if old then new = tonumber(old) + tonumber(ARGV[3]) * (new - tonumber(old)) end
redis.call('HSET', KEYS[1], ARGV[1], stamp(new))
return 1
