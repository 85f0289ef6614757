-- ARGV: id, new secret, seconds that the present one counts on, secrets that count at most.
local webhook, time = webhook_of(ARGV[1]), now()
if redis.call('EXISTS', webhook.record) == 0 then return no_webhook(ARGV[1]) end
local present = redis.call('ZREVRANGE', webhook.secrets, 0, 0)[1]
redis.call('ZADD', webhook.secrets, stamp(time + tonumber(ARGV[3])), present)
redis.call('ZREMRANGEBYSCORE', webhook.secrets, '-inf', stamp(time))
redis.call('ZADD', webhook.secrets, '+inf', ARGV[2])
redis.call('ZREMRANGEBYRANK', webhook.secrets, 0, -tonumber(ARGV[4]) - 1)
return 1
