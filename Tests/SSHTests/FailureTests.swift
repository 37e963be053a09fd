import CSSHTransport
import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

extension SSHTests {
  @Suite struct Failures {
    @Test func saysThatNobodyListens() throws {
      let server = try Server()
      var configuration = try server.configuration()
      configuration.port = try unusedPort()
      guard let address = SocketAddress(numericHost: "127.0.0.1", port: configuration.port) else {
        throw TestFailure("no address")
      }
      // The refusal waits in the socket for the first transfer.
      let connection = try StreamSocket.connect(to: address)
      #expect(!connection.isEstablished)
      let error = try Client(configuration, socket: connection.descriptor).waitForFailure()
      #expect(error.reason == .refused)
      #expect(error.step == .handshake)
      #expect(error.text.contains("port \(configuration.port)"))
    }

    @Test func endsWhenTheServerNeverSpeaks() throws {
      let (listener, port) = try listen()
      var configuration = try Server().configuration()
      configuration.limits.handshake = .milliseconds(200)
      let client = try Client(configuration, socket: try connect(to: port))
      let error = try client.waitForFailure()
      #expect(error.reason == .timedOut)
      #expect(error.step == .handshake)
      _ = listener
    }

    /// A server that goes silent after any number of bytes is given up at its step's deadline.
    @Test func endsWhenTheServerFallsSilentAtAnyPoint() throws {
      let server = try Server()
      let whole = try byteCountOfALogin(server)
      var steps: Set<SSHError.Step> = []
      for count in stride(from: 1, to: whole, by: max(1, whole / 24)) {
        var configuration = try server.configuration()
        configuration.limits.handshake = .milliseconds(300)
        configuration.limits.authentication = .milliseconds(300)
        let relay = try Relay(to: server.port, .silence(after: count))
        let error = try Client(configuration, through: relay).waitForFailure()
        #expect(error.reason == .timedOut, "after \(count): \(error)")
        steps.insert(error.step)
      }
      #expect(steps == [.handshake, .authentication])
    }

    /// The connection is cut after any number of bytes of the server's.
    @Test func endsWhenTheConnectionIsCutAtAnyPointOfALogin() throws {
      let server = try Server()
      let whole = try byteCountOfALogin(server)
      for count in stride(from: 0, to: whole, by: max(1, whole / 60)) {
        let relay = try Relay(to: server.port, .cut(afterServerBytes: count))
        let error = try Client(try server.configuration(), through: relay).waitForFailure()
        #expect(error.reason == .connectionLost, "after \(count): \(error)")
      }
    }

    @Test(arguments: [true, false])
    func endsWhenTheConnectionIsCutInATransfer(byServerBytes: Bool) throws {
      let server = try Server()
      let echo = try Echo.unix(server.directory)
      let sent = pattern(200_000, seed: 8)
      for count in stride(from: 3_000, to: 200_000, by: 9_973) {
        let relay = try Relay(
          to: server.port,
          byServerBytes ? .cut(afterServerBytes: count) : .cutAfterClientBytes(count))
        let client = try Client(try server.configuration(), through: relay)
        var received: [UInt8] = []
        let error = #expect(throws: SSHError.self) {
          try client.waitUntilReady()
          let id = try client.openUnixSocket(echo.path)
          var rest = sent[...]
          try client.wait(for: "the cut") { () -> Void? in
            received += try client.read(id).bytes
            if client.failure == nil { rest = rest.dropFirst(try client.write(rest, to: id)) }
            return nil
          }
        }
        #expect(error?.reason == .connectionLost, "after \(count): \(String(describing: error))")
        #expect(received == Array(sent.prefix(received.count)))
      }
    }

    /// What had arrived before the loss is not lost with it.
    @Test func keepsWhatArrivedBeforeTheLoss() throws {
      let server = try Server()
      let relay = try Relay(to: server.port, .pieces(65_536))
      let client = try Client(try server.configuration(), through: relay)
      try client.waitUntilReady()
      let id = try client.openCommand("cat; sleep 1000")
      let before = relay.serverByteCount
      _ = try client.write(Array("answer".utf8)[...], to: id)
      try client.connection.finishWriting(id)
      client.step()
      // Both, the answer and the end, wait in the socket.
      let end = now() + .seconds(60)
      while relay.serverByteCount < before + 40, now() < end { relay.carry() }
      relay.cut()
      let error = try client.waitForFailure()
      #expect(error.reason == .connectionLost)
      var room = [UInt8](repeating: 0, count: 100)
      let result = try room.withUnsafeMutableBytes { (room) throws(SSHError) in
        try client.connection.read(id, into: room)
      }
      #expect(result == .bytes(6))
      #expect(room.starts(with: Array("answer".utf8)))
      #expect(throws: error) { try client.read(id) }
      #expect(throws: error) { try client.write([1], to: id) }
      #expect(throws: error) { try client.connection.openCommand("true", at: now()) }
    }

    @Test(arguments: [1, 2, 7, 100])
    func worksInPiecesOfAnySize(size: Int) throws {
      let server = try Server()
      let relay = try Relay(to: server.port, .pieces(size))
      let client = try Client(try server.configuration(), through: relay)
      try client.waitUntilReady()
      #expect(try client.runCommand("seq 1 500 | tail -n 1").text == "500\n")
    }

    @Test func worksReceivingLittleInEachStep() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server) { $0.limits.inputPerStep = 100 }
      #expect(try client.runCommand("head -c 50000 /dev/zero").output.count == 50_000)
    }

    @Test func saysThatThereIsNoSuchSocket() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let id = try client.connection.openUnixSocket("/nonexistent/socket", at: now())
      let error = try client.refusal(of: id)
      #expect(error.reason == .channelUnconnected)
      #expect(error.text.contains("/nonexistent/socket"))
      #expect(error.remedy.contains("AllowStreamLocalForwarding"))
      #expect(try client.runCommand("echo on").text == "on\n")
    }

    @Test func saysThatNobodyListensBehindTheServer() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let port = try unusedPort()
      let id = try client.connection.openTCP(host: "127.0.0.1", port: port, at: now())
      let error = try client.refusal(of: id)
      #expect(error.reason == .channelUnconnected)
      #expect(error.text.contains("127.0.0.1:\(port)"))
    }

    @Test func saysThatUnixSocketsAreForbidden() throws {
      let server = try Server(["AllowStreamLocalForwarding no"])
      let echo = try Echo.unix(server.directory)
      let client = try Client(loggedInTo: server)
      let id = try client.connection.openUnixSocket(echo.path, at: now())
      let error = try client.refusal(of: id)
      // OpenSSH does not tell it from a socket that is not there.
      #expect(error.reason == .channelUnconnected || error.reason == .channelForbidden)
      #expect(error.remedy.contains("AllowStreamLocalForwarding"))
    }

    @Test(arguments: ["PermitOpen none", "AllowTcpForwarding no", "DisableForwarding yes"])
    func saysThatForwardingIsForbidden(option: String) throws {
      let server = try Server([option])
      let echo = try Echo.tcp()
      let client = try Client(loggedInTo: server)
      let id = try client.connection.openTCP(host: "127.0.0.1", port: echo.port, at: now())
      let error = try client.refusal(of: id)
      #expect(error.reason == .channelForbidden)
      #expect(error.remedy.contains("AllowTcpForwarding"))
    }

    @Test func saysThatTheServerGivesNoMoreSessions() throws {
      let server = try Server(["MaxSessions 2"])
      let client = try Client(loggedInTo: server)
      let first = try client.openCommand("cat")
      _ = try client.openCommand("cat")
      let third = try client.connection.openCommand("cat", at: now())
      let error = try client.refusal(of: third)
      #expect(error.reason == .channelLimit)
      #expect(error.remedy.contains("MaxSessions"))
      client.connection.close(first, at: now())
      try client.wait(for: "close") {
        client.notices.contains(.channelClosed(first, nil)) ? () : nil
      }
      #expect(try client.runCommand("echo room").text == "room\n")
    }

    @Test func opensNoMoreChannelsThanItsLimit() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server) { $0.limits.channels = 3 }
      for _ in 0..<3 { _ = try client.openCommand("cat") }
      let error = #expect(throws: SSHError.self) {
        try client.connection.openCommand("cat", at: now())
      }
      #expect(error?.reason == .channelLimit)
    }

    @Test func refusesARequestThatNoMessageHolds() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let long = String(repeating: "x", count: 20_000)
      #expect(throws: SSHError.self) { try client.connection.openCommand(long, at: now()) }
      #expect(throws: SSHError.self) { try client.connection.openUnixSocket(long, at: now()) }
    }

    /// The server's own connect hangs; others are opened after it.
    @Test func givesUpAChannelThatDoesNotOpen() throws {
      let server = try Server()
      let (listener, port) = try listen(backlog: 0)
      // Fills the queue, so that the kernel leaves further connections without an answer.
      let crowd = try (0..<4).map { _ in try pending(port) }
      let client = try Client(loggedInTo: server) { $0.limits.channelOpening = .milliseconds(300) }
      let stuck = try client.connection.openTCP(host: "127.0.0.1", port: port, at: now())
      let waiting = try client.connection.openCommand("true", at: now())
      #expect(try client.refusal(of: stuck).reason == .timedOut)
      #expect(try client.refusal(of: waiting).reason == .timedOut)
      // Once the kernel lets it through, the channel that came too late is given back.
      listener.close()
      withExtendedLifetime(crowd) {}
      try client.wait(for: "the late answer") { client.connection.channelCount == 0 ? () : nil }
      #expect(try client.runCommand("echo on").text == "on\n")
    }

    private func pending(_ port: UInt16) throws -> Descriptor {
      guard let address = SocketAddress(numericHost: "127.0.0.1", port: port) else {
        throw TestFailure("no address")
      }
      return try StreamSocket.connect(to: address).descriptor
    }

    @Test func asksASilentServerForASignOfLife() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server) {
        $0.limits.keepaliveInterval = .milliseconds(20)
      }
      let before = client.connection.transport.pointee
      let end = now() + .seconds(2)
      try client.wait(for: "some signs") { now() > end ? () : nil }
      let after = client.connection.transport.pointee
      #expect(after.received - before.received > 20 * 20)
      #expect(after.memory_used <= before.memory_used + 8192)
      #expect(try client.runCommand("echo alive").text == "alive\n")
    }

    @Test func answersAServerThatAsksForASignOfLife() throws {
      let server = try Server(["ClientAliveInterval 1", "ClientAliveCountMax 2"])
      let client = try Client(loggedInTo: server)
      let end = now() + .seconds(6)
      try client.wait(for: "the server's patience") {
        if let failure = client.failure { throw failure }
        return now() > end ? () : nil
      }
      #expect(try client.runCommand("echo alive").text == "alive\n")
    }

    @Test func losesAServerThatGivesNoSignOfLife() throws {
      let server = try Server()
      let relay = try Relay(to: server.port, .silence(after: try byteCountOfALogin(server)))
      var configuration = try server.configuration()
      configuration.limits.keepaliveInterval = .milliseconds(100)
      configuration.limits.silence = .milliseconds(500)
      let client = try Client(configuration, through: relay)
      let error = try client.waitForFailure()
      #expect(error.reason == .timedOut)
      #expect(error.step == .connection)
    }

    /// The socket takes nothing, and closing ends all the same.
    @Test func closesInTimeWhateverTheServerDoes() throws {
      let server = try Server()
      let relay = try Relay(to: server.port, .pieces(65_536))
      var configuration = try server.configuration()
      configuration.limits.closing = .milliseconds(200)
      let client = try Client(configuration, through: relay)
      try client.waitUntilReady()
      let id = try client.openCommand("sleep 1000")
      let block = pattern(1 << 20, seed: 9)
      // Steps without turns: the relay stands still.
      for _ in 0..<50 {
        _ = try client.write(block[...], to: id)
        client.step()
      }
      let start = now()
      client.connection.close(at: start)
      while !client.notices.contains(.closed), now() - start < .seconds(20) {
        usleep(10_000)
        client.step()
      }
      #expect(client.notices.contains(.closed))
      #expect(now() - start >= .milliseconds(200))
      #expect(client.connection.interests.isEmpty)
    }

    @Test func leavesNoDescriptorAndNoSession() throws {
      let server = try Server()
      let agent = try Agent(keys: ["user_ed25519"])
      let before = openDescriptors()
      for round in 0..<6 {
        var configuration = try server.configuration()
        configuration.agentSocket = agent.socket
        let client = try Client(configuration)
        if round == 0 { continue }
        client.step()
        if round == 1 { continue }
        try client.waitUntilReady()
        if round == 2 { continue }
        _ = try client.openCommand("cat")
        if round == 3 { continue }
        if round == 4 { client.connection.abandon() } else { try client.close() }
      }
      #expect(openDescriptors() == before)
    }

    @Test func aForkedCopyOnlyLetsGo() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let id = try client.openCommand("cat")
      let sent = client.connection.transport.pointee.packets_sent
      let pid = fork()
      if pid == 0 {
        client.connection.abandon()
        ssh_transport_destroy(client.connection.transport)
        _exit(0)
      }
      var status: Int32 = 0
      while waitpid(pid, &status, 0) < 0, errno == EINTR {}
      #expect(status == 0)
      #expect(client.connection.transport.pointee.packets_sent == sent)
      _ = try client.write(Array("on".utf8)[...], to: id)
      try client.wait(for: "echo") { try client.read(id).bytes == Array("on".utf8) ? () : nil }
    }

    /// How much a server says until the login is done.
    private func byteCountOfALogin(_ server: Server) throws -> Int {
      let relay = try Relay(to: server.port, .pieces(65_536))
      let client = try Client(try server.configuration(), through: relay)
      try client.waitUntilReady()
      return relay.serverByteCount
    }
  }
}
