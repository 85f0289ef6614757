-- KEYS: once. ARGV: owner, seconds of a lease, fingerprint or ''. Returns 1 if the record is still the owner's.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'until', stamp(now() + tonumber(ARGV[2])))
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'fingerprint', ARGV[3]) end
return 1
