import CSSHTransport
import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

extension SSHTests {
  @Suite struct Hostile {
    private typealias Message = HostileServer.Message

    /// A client and a server in one thread, logged in.
    private func pair(
      _ change: (inout SSHConfiguration) -> Void = { _ in }
    ) throws -> (Client, HostileServer) {
      let (near, far) = try socketPair()
      let server = try HostileServer(socket: far)
      var configuration = SSHConfiguration(
        host: "hostile", user: "nobody",
        hostKeyRule: .pinned(fingerprint: server.hostKey.fingerprint))
      change(&configuration)
      let client = try Client(configuration, socket: near, server: server)
      try client.waitUntilReady()
      return (client, server)
    }

    private func message(_ type: UInt8, _ numbers: UInt32..., text: String? = nil) -> [UInt8] {
      var message = WireWriter()
      message.append(byte: type)
      for number in numbers { message.append(number: number) }
      if let text { message.append(string: text.utf8) }
      return message.bytes
    }

    /// Confirms each channel under the number that the client gave it, with a large window.
    private func confirm(_ payload: [UInt8]) -> [[UInt8]] {
      var reader = WireReader(payload)
      guard reader.byte() == Message.channelOpen, reader.string() != nil,
        let number = reader.number()
      else { return [] }
      return [message(Message.channelConfirmation, number, number, 1 << 20, 32_768)]
    }

    @Test func worksWithAServerThatBehaves() throws {
      let (client, server) = try pair()
      var echoed: [UInt8] = []
      server.respond = { payload in
        if payload.first == Message.data { echoed = payload }
        return self.confirm(payload)
      }
      let id = try client.openUnixSocket("/x")
      _ = try client.write(Array("hello".utf8)[...], to: id)
      try client.wait(for: "data") { echoed.isEmpty ? nil : () }
      server.send(message(Message.data, 0, text: "answer"))
      try client.wait(for: "answer") {
        try client.read(id).bytes == Array("answer".utf8) ? () : nil
      }
      server.beginKeyExchange()
      server.carry()
      try client.wait(for: "new keys") {
        server.send(self.message(Message.data, 0, text: "more"))
        return try client.read(id).bytes.isEmpty ? nil : ()
      }
    }

    @Test func reportsARefusedCommand() throws {
      let (client, server) = try pair()
      server.respond = { payload in
        payload.first == Message.channelRequest
          ? [self.message(Message.requestFailure, 0)] : self.confirm(payload)
      }
      let id = try client.connection.openCommand("true", at: now())
      #expect(try client.refusal(of: id).reason == .commandRefused)
    }

    @Test(
      arguments: [
        (1, .channelForbidden), (2, .channelUnconnected), (3, .channelRefused),
        (4, .channelLimit), (77, .channelRefused),
      ] as [(UInt32, SSHError.Reason)])
    func reportsEachReasonOfARefusal(code: UInt32, reason: SSHError.Reason) throws {
      let (client, server) = try pair()
      server.respond = { payload in
        payload.first == Message.channelOpen
          ? [self.message(Message.channelFailure, 0, code, text: "no") + [0, 0, 0, 0]] : []
      }
      let id = try client.connection.openUnixSocket("/x", at: now())
      #expect(try client.refusal(of: id).reason == reason)
    }

    @Test func endsAtTheServersFarewell() throws {
      let (client, server) = try pair()
      server.send(message(Message.disconnect, 2, text: "go\u{1B}[31m away") + [0, 0, 0, 0])
      let error = try client.waitForFailure()
      #expect(error.reason == .connectionLost)
      #expect(error.text.contains("go?[31m away"))
    }

    /// A channel of a type that does not exist, opened all the same.
    @Test func givesBackAProbeThatWasGranted() throws {
      let (client, server) = try pair { $0.limits.keepaliveInterval = .milliseconds(50) }
      var closes = 0
      server.respond = { payload in
        if payload.first == Message.close {
          closes += 1
          return [self.message(Message.close, UInt32(closes - 1))]
        }
        return self.confirm(payload)
      }
      try client.wait(for: "two probes") { closes >= 2 ? () : nil }
      #expect(client.connection.channelCount <= 1)
    }

    @Test func boundsWhatAServerSendsAhead() throws {
      let (client, server) = try pair { $0.limits.channelWindow = 100_000 }
      server.respond = confirm
      let id = try client.openUnixSocket("/x")
      let data = message(Message.data, 0, text: String(repeating: "x", count: 30_000))
      for _ in 0..<200 { server.send(data) }
      var quiet = 0
      while quiet < 20 {
        let before = client.connection.transport.pointee.received
        client.turn(atMost: 20)
        quiet = client.connection.transport.pointee.received == before ? quiet + 1 : 0
        #expect(client.connection.transport.pointee.memory_used < 1 << 20)
      }
      #expect(try client.read(id).bytes.count <= 100_000 + 65_536)
    }

    /// Small messages that nobody asked for are kept by libssh2 for ever.
    @Test func endsWhenAServerSendsWhatNobodyReads() throws {
      let (client, server) = try pair {
        $0.limits.channels = 1
        $0.limits.channelWindow = 1 << 16
      }
      server.respond = confirm
      _ = try client.openUnixSocket("/x")
      let junk = message(Message.requestSuccess, 0, text: String(repeating: "x", count: 30_000))
      let error = try client.wait(for: "an end") { () -> SSHError? in
        for _ in 0..<10 { server.send(junk) }
        #expect(client.connection.transport.pointee.memory_used < 32 << 20)
        return client.failure
      }
      #expect(error.reason == .limitExceeded)
    }

    /// One step is over after its share, however much there is.
    @Test func takesItsShareOfAnEndlessStream() throws {
      let (client, server) = try pair { $0.limits.inputPerStep = 10_000 }
      let noise = message(Message.ignore, 1000) + [UInt8](repeating: 7, count: 1000)
      for _ in 0..<2000 { server.send(noise) }
      server.respond = confirm
      _ = try client.openUnixSocket("/x")
      for _ in 0..<50 {
        server.carry()
        let before = client.connection.transport.pointee.received
        client.step()
        #expect(client.connection.transport.pointee.received - before <= 10_000)
      }
      #expect(client.failure == nil)
    }

    @Test func survivesAnEndlessGreeting() throws {
      let (near, far) = try socketPair()
      let configuration = SSHConfiguration(
        host: "hostile", user: "nobody", hostKeyRule: .pinned(fingerprint: "SHA256:x"))
      let client = try Client(configuration, socket: near)
      let line = Array("nothing to see here, move on\r\n".utf8)
      let error = try client.wait(for: "an end") { () -> SSHError? in
        for _ in 0..<1000 {
          _ = Glibc.send(far.number, line, line.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        }
        return client.failure
      }
      #expect(error.reason == .limitExceeded || error.reason == .protocolFailure)
    }

    /// What a real server says until its keys are exchanged, said again with changes.
    @Test func survivesASpoiledGreeting() throws {
      let real = try Server()
      let relay = try Relay(to: real.port, .pieces(65_536))
      let recorded = try Client(try real.configuration(), through: relay)
      try recorded.waitUntilReady()
      let greeting = Array(relay.serverBytes.prefix(1_600))
      for seed in 0..<fuzzRounds(400) {
        var random = SplitMix64(seed: UInt64(seed))
        try replay(mutate(greeting, &random), seed: seed)
      }
    }

    private func replay(_ bytes: [UInt8], seed: Int) throws {
      let (near, far) = try socketPair()
      let configuration = SSHConfiguration(
        host: "hostile", user: "nobody", hostKeyRule: .pinned(fingerprint: "SHA256:x"))
      let client = try Client(configuration, socket: near)
      _ = Glibc.send(far.number, bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      for _ in 0..<20 where client.failure == nil { client.step() }
      shutdown(far.number, Int32(SHUT_WR))
      for _ in 0..<20 where client.failure == nil { client.step() }
      #expect(client.failure != nil, "seed \(seed)")
      #expect(client.connection.transport.pointee.memory_used < 1 << 20, "seed \(seed)")
    }

    private func mutate(_ bytes: [UInt8], _ random: inout SplitMix64) -> [UInt8] {
      var bytes = bytes
      for _ in 0...(random.next() % 4) where !bytes.isEmpty {
        let place = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 5 {
        case 0: bytes[place] ^= UInt8(truncatingIfNeeded: 1 << (random.next() % 8))
        case 1: bytes[place] = [0, 1, 0x7F, 0x80, 0xFF][Int(random.next() % 5)]
        case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int(random.next() % 40)))
        case 3: bytes.insert(contentsOf: bytes[place...].prefix(50), at: place)
        default: bytes.removeLast(bytes.count - place)
        }
      }
      return bytes
    }

    /// After the login: messages of every kind with fields that lie, among others that do not.
    @Test func survivesAServerThatLies() throws {
      for seed in 0..<fuzzRounds(200) { try lie(seed: UInt64(seed)) }
    }

    private func lie(seed: UInt64) throws {
      var random = SplitMix64(seed: seed)
      let (client, server) = try pair {
        $0.limits.channelWindow = 1 << 16
        $0.limits.channels = 4
        $0.limits.channelOpening = .milliseconds(20)
        $0.limits.closing = .milliseconds(20)
        $0.limits.keepaliveInterval = .milliseconds(30)
      }
      server.respond = { [unowned server] payload in
        if random.next() % 3 == 0 { return [] }
        return self.answer(payload, &random, server)
      }
      var ids: [SSHChannelID] = []
      for _ in 0..<60 where client.failure == nil {
        act(client, &ids, &random)
        if random.next() % 2 == 0 { server.send(lie(&random)) }
        if random.next() % 100 == 0 { server.beginKeyExchange() }
        if random.next() % 200 == 0 { server.sendRaw([UInt8](repeating: 0, count: 64)) }
        client.turn(atMost: 1)
        #expect(client.connection.transport.pointee.memory_used < 32 << 20, "seed \(seed)")
      }
      if random.next() % 2 == 0 {
        client.connection.close(at: now())
        for _ in 0..<100 where !client.notices.contains(.closed) { client.turn(atMost: 1) }
        #expect(client.notices.contains(.closed), "seed \(seed)")
      }
    }

    /// What a caller may do at any time.
    private func act(_ client: Client, _ ids: inout [SSHChannelID], _ random: inout SplitMix64) {
      let connection = client.connection
      let id = ids.isEmpty ? nil : ids[Int(random.next() % UInt64(ids.count))]
      switch random.next() % 8 {
      case 0: if let new = try? connection.openCommand("x", at: now()) { ids.append(new) }
      case 1: if let new = try? connection.openUnixSocket("/x", at: now()) { ids.append(new) }
      case 2: if let id { connection.close(id, at: now()) }
      case 3: if let id { try? connection.finishWriting(id) }
      case 4: if let id { _ = try? client.write([UInt8](repeating: 1, count: 5_000)[...], to: id) }
      default:
        if let id {
          _ = try? client.read(id)
          _ = try? client.read(id, .error)
        }
      }
    }

    /// Mostly what a server would answer.
    private func answer(
      _ payload: [UInt8], _ random: inout SplitMix64, _ server: HostileServer
    ) -> [[UInt8]] {
      var reader = WireReader(payload)
      switch reader.byte() {
      case Message.channelOpen:
        _ = reader.string()
        let number = reader.number() ?? 0
        return random.next() % 5 == 0
          ? [message(Message.channelFailure, number, 2, text: "") + [0, 0, 0, 0]]
          : [message(Message.channelConfirmation, number, number, plausible(&random), 32_768)]
      case Message.channelRequest:
        return [message(Message.requestSuccess, reader.number() ?? 0)]
      case Message.close:
        return [message(Message.close, reader.number() ?? 0)]
      default: return []
      }
    }

    private func lie(_ random: inout SplitMix64) -> [UInt8] {
      let types: [UInt8] = [
        0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 30, 31, 50, 51, 52, 53, 60, 80, 81, 82, 90, 91, 92, 93, 94,
        95, 96, 97, 98, 99, 100, 93, 94, 94, 94, 95, 96, 97, 98, 98, 200,
      ]
      var message = WireWriter()
      message.append(byte: types[Int(random.next() % UInt64(types.count))])
      if random.next() % 8 != 0 { message.append(number: UInt32(random.next() % 6)) }
      for _ in 0..<(random.next() % 5) {
        switch random.next() % 6 {
        case 0: message.append(number: plausible(&random))
        case 1: message.append(byte: UInt8(truncatingIfNeeded: random.next()))
        case 2:
          let names = ["exit-status", "exit-signal", "forwarded-tcpip", "x11", "keepalive", ""]
          message.append(string: names[Int(random.next() % UInt64(names.count))].utf8)
        default:
          message.append(string: [UInt8](repeating: 65, count: Int(random.next() % 300)))
        }
      }
      var bytes = message.bytes
      if random.next() % 4 == 0, bytes.count > 1 {
        bytes.removeLast(Int(random.next() % UInt64(bytes.count - 1)))
      }
      return bytes
    }

    private func plausible(_ random: inout SplitMix64) -> UInt32 {
      let values: [UInt32] = [0, 1, 2, 3, 5, 100, 32_768, 1 << 20, .max, .max - 1, 1 << 31]
      return values[Int(random.next() % UInt64(values.count))]
    }

    /// More rounds by `SSH_FUZZ_FACTOR`, for a long run.
    private func fuzzRounds(_ count: Int) -> Int {
      let factor = getenv("SSH_FUZZ_FACTOR").flatMap { Int(String(cString: $0)) } ?? 1
      return count * factor
    }
  }
}
