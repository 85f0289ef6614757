-- ARGV: id. It is told of what happens from now on.
local webhook = webhook_of(ARGV[1])
if redis.call('EXISTS', webhook.record) == 0 then return no_webhook(ARGV[1]) end
if redis.call('HEXISTS', webhook.record, 'disabled_at') == 1 then
  redis.call('HDEL', webhook.record, 'disabled_at', 'disabled_reason', 'failing_since', 'failures', 'not_before')
end
return 1
