import { describe as group, expect, it } from 'vitest';
import { describe, explainHosts, explainIpv6, explainRelay, explainStun, verdict, type Gathered } from '../src/pages/doctor-words';

const candidate = (type: string, address: string, change: Partial<Gathered> = {}): Gathered => ({ type, protocol: 'udp', address, port: 4000, ...change });

group('the connection test', () => {
  it('writes candidates on one line', () => {
    expect(describe(candidate('relay', 'fd00::1', { relayProtocol: 'tls' }))).toBe('relay via tls udp [fd00::1]:4000');
    expect(describe(candidate('host', '[fd00::1]'))).toBe('host udp [fd00::1]:4000');
  });

  it('tells hidden addresses from none', () => {
    expect(explainHosts([candidate('host', 'abc.local')]).words).toContain('mDNS');
    expect(explainHosts([]).severity).toBe('bad');
    expect(explainHosts([candidate('host', '10.0.0.1'), candidate('host', 'fd00::1')])).toMatchObject({ severity: 'good', fact: 'IPv4 and IPv6' });
  });

  it('knows a NAT that depends on the address', () => {
    const two = [candidate('srflx', '192.0.2.1', { port: 1, relatedPort: 9 }), candidate('srflx', '192.0.2.1', { port: 2, relatedPort: 9 })];
    expect(explainStun(two, 2).fact).toBe('address-dependent');
    expect(explainStun(two.slice(1), 2)).toMatchObject({ severity: 'good', fact: '192.0.2.1' });
    expect(explainStun([candidate('host', 'a.local')], 1)).toMatchObject({ severity: 'warn', fact: 'no answer' });
    expect(explainStun([], 0).fact).toBe('not offered');
  });

  it('lists the ways to the relay', () => {
    const relays = [candidate('relay', '192.0.2.1', { relayProtocol: 'udp' }), candidate('relay', '192.0.2.1', { relayProtocol: 'tls' })];
    expect(explainRelay(relays, true).words).toContain('UDP and TLS');
    expect(explainRelay([], true).severity).toBe('warn');
    expect(explainRelay([], false).severity).toBe('note');
  });

  it('says whether IPv6 is used', () => {
    expect(explainIpv6([], 'fd00::1').fact).toBe('in use');
    expect(explainIpv6([candidate('host', '2001:db8::1')], '192.0.2.1').fact).toBe('there');
    expect(explainIpv6([candidate('host', 'fe80::1')], '192.0.2.1').fact).toBe('none');
  });

  it('sums up', () => {
    expect(verdict([], false).severity).toBe('bad');
    expect(verdict([{ name: 'Path of the media', severity: 'warn' }], true)).toMatchObject({ severity: 'warn', text: 'Look at path of the media below.' });
    expect(verdict([{ name: 'X', severity: 'note' }], true).title).toBe('Everything works');
  });
});
