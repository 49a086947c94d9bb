"""Lines of WARN and ERROR of systems that are well, as software writes them: no step of a shipped rule may see one.

A line has no level: it is read as a warning, and as an error.
"""

from typing import Final

_JAVA: Final = (
    "java.io.FileNotFoundException: /srv/shop/theme.css (No such file or directory)",
    "com.shop.ResourceNotFoundException: order 884213 does not exist",
    "com.shop.UserNotFoundException: no user ann@shop.example",
    "Resolved [org.springframework.web.servlet.resource.NoResourceFoundException: No static resource favicon.ico.]",
    "Resolved [org.springframework.web.bind.MethodArgumentNotValidException: Validation failed for argument [0]]",
    "Resolved [org.springframework.web.HttpRequestMethodNotSupportedException: Request method 'POST' is not supported]",
    "org.apache.catalina.connector.ClientAbortException: java.io.IOException: Broken pipe",
    "HikariPool-1 - Thread starvation or clock leap detected (housekeeper delta=1m2s345ms).",
    "HHH000104: firstResult/maxResults specified with collection fetch; applying in memory",
    "Uncaught error handler covers java.lang.OutOfMemoryError, java.lang.StackOverflowError",
    "java.util.concurrent.RejectedExecutionException: Task shop.Export@1a2b rejected from java.util.concurrent."
    "ThreadPoolExecutor@3c4d[Terminated, pool size = 0, active threads = 0, queued tasks = 0, completed tasks = 5]",
    "java.util.concurrent.RejectedExecutionException: Task shop.Export@1a2b rejected from java.util.concurrent."
    "ThreadPoolExecutor@3c4d[Shutting down, pool size = 1, active threads = 1, queued tasks = 0, completed tasks = 5]",
    "java.util.concurrent.RejectedExecutionException: event executor terminated",
    "org.springframework.core.task.TaskRejectedException: ExecutorService in shutdown state did not accept task",
    "Commit cannot be completed since the group has already rebalanced and assigned the partitions to another member.",
    "[Consumer clientId=c-1, groupId=billing] Error while fetching metadata with correlation id 3: {orders=LEADER_NOT_"
    "AVAILABLE}",
    "[Producer clientId=p-1] Got error produce response on topic-partition orders-3, retrying (2 attempts left).",
    "Failed to export spans. The request could not be executed. Full error message: timeout",
    "Using deprecated property spring.redis.host; use spring.data.redis.host",
)
_GO: Final = (
    "http: TLS handshake error from 10.0.0.7:54321: EOF",
    "http: TLS handshake error from 10.0.0.7:54321: read tcp 10.0.0.8:8443->10.0.0.7:54321: i/o timeout",
    "read tcp 10.0.0.7:54321->10.0.0.8:5432: i/o timeout, retried",
    "write tcp 10.0.0.7:8080->10.0.0.8:54321: write: broken pipe",
    'msg="user lookup failed on replica: i/o timeout, read from the primary" user=42',
    'msg="context canceled by client" path=/cart',
    "record not found",
    "sql: no rows in result set",
    "rpc error: code = NotFound desc = cart 42 not found",
    "rpc error: code = InvalidArgument desc = quantity must be positive",
    "dial tcp 10.0.0.7:8080: connect: connection refused; attempt 2 of 5 succeeded",
    "memcache: key not found",
    "memcache: cache miss",
    "redis: nil",
    'msg="consumer lag alert" threshold=10000 lag=12',
    'msg="consumer lag" limit=48213 lag=7',
    'msg="upstream server misbehaving, left out for 10 s" upstream=cart-2',
    'msg="sending queue is full, data is dropped" exporter=otlp',
)
_NODE: Final = (
    "Error: Cannot find module './theme' code: 'MODULE_NOT_FOUND'",
    "PageNotFoundError: Cannot find module for page: /cart",
    "TemplateNotFound: cart.html",
    'ValidationError: "quantity" must be a positive number',
    "JsonWebTokenError: jwt expired",
    "Error: read ECONNRESET",
    "Error: connect ECONNREFUSED 10.0.0.7:8080",
    "(node:7) Warning: Setting the NODE_TLS_REJECT_UNAUTHORIZED environment variable to '0' makes TLS insecure",
    "DeprecationWarning: Buffer() is deprecated due to security and usability issues",
    "[BatchLogRecordProcessor] queue is full, dropping record",
    "async appender: queue is full, dropping log event",
    "statsd: metric queue is full",
    "[BatchSpanProcessor] queue is full, dropping span",
    "Using self-signed certificate for local development",
)
_PYTHON: Final = (
    "ModuleNotFoundError: No module named 'uvloop', using asyncio",
    "jinja2.exceptions.TemplateNotFound: cart.html",
    "DeprecationWarning: django.core.cache.backends.memcached.MemcachedCache is deprecated",
    "pymemcache: value of key larger than 1 MB",
    "Not Found: /favicon.ico",
    "Forbidden (CSRF token missing.): /cart",
    "urllib3.connectionpool: Retrying (Retry(total=2)) after connection broken by 'RemoteDisconnected'",
    "BlockingIOError: [Errno 11] Resource temporarily unavailable",
    "Resource temporarily unavailable (os error 11)",
    "BrokenPipeError: [Errno 32] Broken pipe, client will try again",
    "Queue is full, likely spans/logs will be dropped.",
    "ImportError: libgomp.so.1: cannot allocate memory in static TLS block",
    "Detected slow query of 1.2 s in view cart",
)
_DOTNET: Final = (
    "System.IO.FileNotFoundException: Could not find file '/app/theme.css'.",
    "System.Threading.Tasks.TaskCanceledException: The operation was canceled.",
    "Microsoft.AspNetCore.Server.Kestrel[22] As of 01/31/2026 12:00:00, the heartbeat has been running for 1 s",
    "Microsoft.EntityFrameworkCore.Query[10103] The query uses a row limiting operator without an 'OrderBy' operator",
    "Microsoft.AspNetCore.DataProtection.Repositories[60] Storing keys in a directory that may not be persisted",
    "FluentValidation.ValidationException: Validation failed: Quantity must be greater than 0",
    "RemoteCertificateValidationCallback is set: the certificates of pay.shop are pinned",
    "Registered handler for System.OutOfMemoryException",
)
_NGINX: Final = (
    '7#7: *12 open() "/usr/share/nginx/html/favicon.ico" failed (2: No such file or directory)',
    "7#7: *12 an upstream response is buffered to a temporary file /var/cache/nginx/proxy_temp/1",
    "7#7: *12 recv() failed (104: Connection reset by peer) while reading client request",
    "7#7: *12 recv() failed (11: Resource temporarily unavailable)",
    "7#7: *12 limiting requests, excess: 5.120 by zone one, client: 10.0.0.7",
    "7#7: *12 client intended to send too large body: 1048577 bytes",
    "7#7: *12 SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) while SSL handshaking",
    '1#1: conflicting server name "shop.example" on 0.0.0.0:80, ignored',
)
_POSTGRESQL: Final = (
    'duplicate key value violates unique constraint "items_pkey"',
    'relation "items_old" does not exist at character 15',
    "canceling statement due to user request",
    "canceling autovacuum task",
    "could not serialize access due to concurrent update",
    "there is no transaction in progress",
    "unexpected EOF on client connection with an open transaction",
    "password authentication failed for user ann",
    "duration: 1203.456 ms statement: SELECT count(*) FROM items",
)
_KUBERNETES: Final = (
    "Readiness probe failed: HTTP probe failed with statuscode: 503",
    "Back-off restarting failed container app in pod ads-5d9f_shop(1f0c)",
    "back-off 10s restarting failed container=app pod=ads-5d9f_shop(1f0c)",
    "back-off 20s restarting failed container=app pod=ads-5d9f_shop(1f0c)",
    "Operation cannot be fulfilled on deployments.apps: the object has been modified; please apply your changes",
    "policy/v1beta1 PodSecurityPolicy is deprecated in v1.21+, unavailable in v1.25+",
    "0/3 nodes are available: 1 node(s) were unschedulable",
    'terminated_reason{container="app",reason="OOMKilled"} 0',
    "rule of alert ContainerOOMKilled loaded",
    "Pod was evicted and replaced: The node was low on resource: ephemeral-storage.",
    "pods cart-7c44 not found",
)
_SYSTEM: Final = (
    "shop.service: Main process exited, code=exited, status=1/FAILURE",
    "shop.service: Scheduled restart job, restart counter is at 1.",
    "shop.service: Scheduled restart job, restart counter is at 2.",
    "shop.service: Service RestartSec=100ms expired, scheduling restart.",
    "exited: web (exit status 1; not expected)",
    "APPLICATION FAILED TO START",
    "Using 0.0.0.0 for dnsmasq; host name web-1 has no address of its own yet",
    "clock was stepped by 0.012 seconds",
)
_LIVE: Final = (
    "Redis command took 120 ms: GET cart",
    "Redis connection to 10.0.0.7:6379 is slow",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "no longer lagging behind",
    "Pause Full (System.gc()) 1940M->839M(2048M) 1045.678ms",
    "query executed successfully after 2 retries",
    "session of user 42 has expired",
    "payment declined: card has expired",
    "login failed for user 42",
)
USUAL_WARNINGS: Final = (
    *_JAVA,
    *_GO,
    *_NODE,
    *_PYTHON,
    *_DOTNET,
    *_NGINX,
    *_POSTGRESQL,
    *_KUBERNETES,
    *_SYSTEM,
    *_LIVE,
)
