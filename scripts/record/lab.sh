# The namespaces, the servers in them, and the recording itself. Sourced by record.sh.

data=$PWD/tests/data
work=$(mktemp -d)
attacker=ftagent-record-$$-attacker
reflector=ftagent-record-$$-reflector
victim=ftagent-record-$$-victim
victim_v4=10.99.0.2
victim_v6=fd99::2
mac_attacker=02:00:00:00:00:01
mac_victim=02:00:00:00:00:02
mac_to_reflector=02:00:00:00:00:03
mac_reflector=02:00:00:00:00:04
# No capture may be larger than this, nor all of them together.
most_bytes=120000
most_bytes_together=1200000
declare -a started=()

in_attacker() { ip netns exec "$attacker" timeout --signal=KILL 20 "$@"; }
in_reflector() { ip netns exec "$reflector" timeout --signal=KILL 20 "$@"; }
in_victim() { ip netns exec "$victim" timeout --signal=KILL 20 "$@"; }

# link NAMESPACE NAME MAC V4/LEN NAMESPACE NAME MAC V4/LEN
link() {
  ip link add "$2" netns "$1" address "$3" type veth peer name "$6" netns "$5" address "$7"
  local namespace name address
  for end in "$1 $2 $4" "$5 $6 $8"; do
    read -r namespace name address <<<"$end"
    ip netns exec "$namespace" sysctl -qw "net.ipv4.conf.$name.rp_filter=0" "net.ipv6.conf.$name.accept_dad=0" \
      "net.ipv6.conf.$name.router_solicitations=0" "net.ipv6.conf.$name.addr_gen_mode=1"
    ip netns exec "$namespace" ethtool -K "$name" gro off gso off tso off >/dev/null
    ip -n "$namespace" address add "$address" dev "$name"
    ip -n "$namespace" link set "$name" up
  done
}

set_up() {
  mkdir -p "$data"
  local namespace
  for namespace in "$attacker" "$reflector" "$victim"; do
    ip netns add "$namespace"
    # One retry of a SYN-ACK, so that half-open connections are gone before the next capture begins.
    ip netns exec "$namespace" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
      net.ipv4.tcp_synack_retries=1
    ip -n "$namespace" link set lo up
  done
  link "$attacker" a-victim $mac_attacker 10.99.0.1/24 "$victim" v-attacker $mac_victim $victim_v4/24
  link "$attacker" a-reflector $mac_to_reflector 10.98.0.1/24 "$reflector" r-attacker $mac_reflector 10.98.0.2/24
  link "$reflector" r-victim 02:00:00:00:00:05 10.97.0.1/24 "$victim" v-reflector 02:00:00:00:00:06 10.97.0.2/24
  ip -n "$attacker" address add fd99::1/64 dev a-victim nodad
  ip -n "$victim" address add $victim_v6/64 dev v-attacker nodad
  # What the victim answers to forged sources leaves by the attacker's link and ends there, silently.
  ip -n "$victim" route add default via 10.99.0.1
  ip -n "$victim" -6 route add default via fd99::1
  ip -n "$attacker" -6 route add blackhole default
  # The reflectors: many addresses, reached and answering over the reflector's own link to the victim.
  local n
  for n in $(seq 1 64); do ip -n "$reflector" address add "198.51.100.$n/32" dev lo; done
  ip -n "$reflector" route add $victim_v4/32 via 10.97.0.2
  ip -n "$attacker" route add 198.51.100.0/24 via 10.98.0.2
  ip -n "$victim" route add 198.51.100.0/24 via 10.97.0.1 src $victim_v4
  # Neighbours are known before the first packet, so that no capture begins with ARP.
  in_attacker ip neighbour replace $victim_v4 lladdr $mac_victim dev a-victim nud permanent
  in_victim ip neighbour replace 10.99.0.1 lladdr $mac_attacker dev v-attacker nud permanent
  in_attacker ip neighbour replace $victim_v6 lladdr $mac_victim dev a-victim nud permanent
  in_victim ip neighbour replace fd99::1 lladdr $mac_attacker dev v-attacker nud permanent
  in_reflector ip neighbour replace 10.97.0.2 lladdr 02:00:00:00:00:06 dev r-victim nud permanent
  in_victim ip neighbour replace 10.97.0.1 lladdr 02:00:00:00:00:05 dev v-reflector nud permanent
}

tear_down() {
  local pid namespace
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for namespace in "$attacker" "$reflector" "$victim"; do
    for pid in $(ip netns pids "$namespace" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns delete "$namespace" 2>/dev/null || true
  done
  rm -rf "$work"
}

# serve NAMESPACE LOG COMMAND...: a server for the whole run
serve() {
  local namespace=$1 log=$2
  shift 2
  ip netns exec "$namespace" "$@" >"$work/$log.log" 2>&1 &
  started+=($!)
  disown $!
}

# eventually COMMAND...: waits until it succeeds, for at most eight seconds
eventually() {
  for _ in $(seq 1 80); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "record.sh: still failing after eight seconds: $*" >&2
  cat "$work"/*.log >&2
  return 1
}

start_servers() {
  # A web server on the victim, plain and TLS.
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=victim.example -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
  mkdir -p "$work/nginx" "$work/knot"
  cat >"$work/nginx.conf" <<-CONF
	daemon off; master_process off; user root; pid $work/nginx/pid; error_log $work/nginx/error.log;
	events { worker_connections 2048; }
	http {
	  access_log off; keepalive_requests 100000;
	  client_body_temp_path $work/nginx/b; proxy_temp_path $work/nginx/p; fastcgi_temp_path $work/nginx/f;
	  uwsgi_temp_path $work/nginx/u; scgi_temp_path $work/nginx/s;
	  server {
	    listen 80 backlog=4096; listen [::]:80; listen 443 ssl;
	    ssl_certificate $work/cert.pem; ssl_certificate_key $work/key.pem;
	    location / { return 200 "$(printf 'it works %.0s' $(seq 1 60))\n"; }
	  }
	}
	CONF
  serve "$victim" nginx nginx -p "$work/nginx" -e "$work/nginx/error.log" -c "$work/nginx.conf"
  # A name server with one large answer (TXT), on the reflector and on the victim.
  {
    echo '$ORIGIN example.com.'
    echo '@ 3600 SOA ns.example.com. admin.example.com. 1 3600 900 604800 300'
    echo '@ 3600 NS ns'
    echo 'ns 3600 A 198.51.100.1'
    local n
    for n in $(seq 1 22); do echo "@ 3600 TXT \"v=spf1 ip4:192.0.2.$n include:many$n.example.net ~all\""; done
    for n in $(seq 1 200); do echo "host$n 3600 A 192.0.2.$n"; done
  } >"$work/knot/example.com.zone"
  local role
  for role in reflector victim; do
    mkdir -p "$work/knot/$role"
    cat >"$work/knot/$role.conf" <<-CONF
	server:
	    rundir: "$work/knot/$role"
	    user: root
	    listen: 0.0.0.0@53
	    udp-max-payload: 4096
	    udp-workers: 1
	    tcp-workers: 1
	    background-workers: 1
	database:
	    storage: "$work/knot/$role"
	zone:
	  - domain: example.com
	    file: "$work/knot/example.com.zone"
	    zonefile-sync: -1
	CONF
    serve "${!role}" "knot-$role" knotd -c "$work/knot/$role.conf"
  done
  # A time server that answers control queries, and a cache that answers over UDP.
  printf 'driftfile %s/drift\ntinker panic 0\nserver 127.127.1.0\nfudge 127.127.1.0 stratum 5\nrestrict default\nrestrict -6 default\n' "$work" >"$work/ntp.conf"
  serve "$reflector" ntpd ntpd -n -x -c "$work/ntp.conf" -p "$work/ntpd.pid" -f "$work/drift"
  serve "$reflector" memcached memcached -u root -l "$(seq -s, -f 198.51.100.%g 1 64)" -U 11211 -m 16 -t 1
  eventually in_attacker curl -sf -o /dev/null http://$victim_v4/
  eventually in_attacker kdig +short +time=1 +retry=0 @198.51.100.1 example.com SOA
  eventually in_attacker kdig +short +time=1 +retry=0 @$victim_v4 example.com SOA
}

no_half_open() { [ -z "$(in_victim ss -Htn state syn-recv)" ]; }

# slow_answers on|off: the victim's uplink carries half a megabit a second, so that a few requests last a second
slow_answers() {
  if [ "$1" = on ]; then
    in_victim tc qdisc add dev v-attacker root tbf rate 600kbit burst 3000 latency 1s
  else
    in_victim tc qdisc del dev v-attacker root
  fi
}

# begin NAME LINK SNAPLEN MOST_PACKETS [FILTER]: starts recording at the victim's LINK
begin() {
  recorded_name=$1
  eventually no_half_open
  local log=$work/tcpdump.log
  : >"$log"
  ip netns exec "$victim" tcpdump -n -i "$2" -s "$3" -c "$4" -B 16384 --immediate-mode -Z root -w "$work/$1.pcap" "${5:-ip or ip6}" 2>"$log" &
  recorder=$!
  started+=("$recorder")
  eventually grep -q 'listening on' "$log"
}

# finish FAMILY SUBTYPE TOOL...: ends the recording, keeps it, and notes what it is
finish() {
  local family=$1 subtype=$2
  shift 2
  sleep 0.3
  kill -INT "$recorder" 2>/dev/null || true
  wait "$recorder" || true
  grep -q '^0 packets dropped by kernel' "$work/tcpdump.log" || { echo "record.sh: tcpdump lost packets of $recorded_name" >&2; exit 1; }
  mv "$work/$recorded_name.pcap" "$data/$recorded_name.pcap"
  chmod 644 "$data/$recorded_name.pcap"
  local address=${recorded_victim:-$victim_v4}
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$recorded_name.pcap" "$address" "$family" "$subtype" \
    "$(peak "$data/$recorded_name.pcap" "$address")" "$*" >"$work/$recorded_name.line"
  cut -f1-5 "$work/$recorded_name.line"
}

# peak FILE ADDRESS: most packets to ADDRESS in one whole second
peak() {
  tcpdump -nn -tt -r "$1" dst host "$2" 2>/dev/null | sed -n 's/^\([0-9]*\)\.[0-9]* .*/\1/p' | uniq -c |
    awk '$1 > most { most = $1 } END { print most + 0 }'
}

# The header, and one line for each capture: the new ones replace the old ones of the same name.
write_manifest() {
  local lines=$work/manifest.lines
  {
    [ ! -f "$data/manifest.tsv" ] || tail -n +2 "$data/manifest.tsv"
    cat "$work"/*.line
  } | awk -F'\t' '{ line[$1] = $0 } END { for (name in line) print line[name] }' | LC_ALL=C sort >"$lines"
  {
    printf 'file\tvictim\texpect_family\texpect_subtype\tpeak_pps\trecorded_with\n'
    while IFS=$'\t' read -r name rest; do
      [ ! -f "$data/$name" ] || printf '%s\t%s\n' "$name" "$rest"
    done <"$lines"
  } >"$work/manifest.tsv"
  mv "$work/manifest.tsv" "$data/manifest.tsv"
  chmod 644 "$data/manifest.tsv"
}

check_sizes() {
  local file size together=0
  for file in "$data"/*.pcap; do
    size=$(stat -c %s "$file")
    together=$((together + size))
    [ "$size" -le $most_bytes ] || { echo "record.sh: $file has $size bytes, more than $most_bytes" >&2; exit 1; }
  done
  echo "$(ls "$data"/*.pcap | wc -l) captures, $together bytes"
  [ $together -le $most_bytes_together ] || { echo "record.sh: more than $most_bytes_together bytes in all" >&2; exit 1; }
}

# frames TEXT...: a configuration for trafgen, printed as the name of its file
frames() {
  local file
  file=$(mktemp "$work/frames.XXXXXX")
  printf '%s\n' "$@" >"$file"
  echo "$file"
}

# flood LINK FRAMES PACKETS PAUSE_MICROSECONDS (trafgen's --rate would send each second's packets in one burst)
flood() {
  in_attacker trafgen --cpus 1 --no-sock-mem --notouch-irq --in "$2" --out "$1" --num "$3" --gap "$4us" \
    >/dev/null 2>"$work/trafgen.log" || { cat "$work/trafgen.log" >&2; return 1; }
}

# hping PACKETS PAUSE_MICROSECONDS ARGUMENTS...
hping() {
  local packets=$1 pause=$2
  shift 2
  in_attacker hping3 -q -n -I a-victim -c "$packets" -i "u$pause" "$@" $victim_v4 >/dev/null 2>&1 || true
}

# version COMMAND...: the first thing that looks like a version in what it says
version() {
  { "$@" 2>&1 || true; } | awk '!seen && match($0, /[0-9]+(\.[0-9]+)+[-a-z0-9.]*/) { print substr($0, RSTART, RLENGTH); seen = 1 }'
}

version_of_hping3="hping3 $(version hping3 --version)"
version_of_trafgen="trafgen $(version trafgen --version)"
version_of_nginx="nginx $(version nginx -v)"
version_of_knot="knotd $(version knotd -V)"
version_of_wrk="wrk $(version wrk -v)"
version_of_ab="ab $(version ab -V)"
version_of_nping="nping $(version nping --version)"
version_of_ntpd="ntpd $(version ntpd --version)"
version_of_memcached="memcached $(version memcached -V)"
version_of_iperf3="iperf3 $(version iperf3 --version)"
version_of_curl="curl $(version curl --version)"
version_of_dnsperf="dnsperf $(version timeout 5 dnsperf -s 127.0.0.1 -d /dev/null -l 1)"
version_of_openssl="openssl $(version openssl version)"
