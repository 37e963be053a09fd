import CSSHTransport
import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

extension SSHTests {
  @Suite struct Channels {
    @Test(arguments: [1 << 20, 9_000_001])
    func carriesMebibytesBothWaysOverAUnixSocket(count: Int) throws {
      let server = try Server()
      let echo = try Echo.unix(server.directory)
      let client = try Client(loggedInTo: server)
      let id = try client.openUnixSocket(echo.path)
      let sent = pattern(count, seed: 1)
      #expect(try client.exchange(sent, over: [id]) == [sent])
      try client.close()
    }

    @Test func carriesMebibytesBothWaysOverTCP() throws {
      let server = try Server()
      let echo = try Echo.tcp()
      let client = try Client(loggedInTo: server)
      let id = try client.openTCP(echo.port)
      let sent = pattern(5_000_000, seed: 2)
      #expect(try client.exchange(sent, over: [id]) == [sent])
    }

    @Test func carriesManyChannelsAtOnce() throws {
      let server = try Server()
      let echo = try Echo.unix(server.directory)
      let client = try Client(loggedInTo: server)
      let ids = try (0..<40).map { _ in try client.openUnixSocket(echo.path) }
      #expect(client.connection.channelCount == 40)
      let sent = pattern(300_000, seed: 3)
      #expect(try client.exchange(sent, over: ids) == ids.map { _ in sent })
      #expect(client.connection.channelCount == 0)
    }

    @Test func carriesWithASmallWindow() throws {
      let server = try Server()
      let echo = try Echo.unix(server.directory)
      let client = try Client(loggedInTo: server) { $0.limits.channelWindow = 64 << 10 }
      let id = try client.openUnixSocket(echo.path)
      let sent = pattern(2_000_000, seed: 4)
      #expect(try client.exchange(sent, over: [id]) == [sent])
    }

    /// The server changes keys after every mebibyte, in the middle of both directions.
    @Test func carriesOnWhileKeysAreExchanged() throws {
      let server = try Server(["RekeyLimit 1M", "LogLevel DEBUG1"])
      let echo = try Echo.unix(server.directory)
      let client = try Client(loggedInTo: server)
      let ids = try (0..<3).map { _ in try client.openUnixSocket(echo.path) }
      let sent = pattern(6_000_000, seed: 5)
      let received = try client.exchange(sent, over: ids)
      for bytes in received { #expect(bytes == sent) }
      #expect(try client.runCommand("echo still").text == "still\n")
      let exchanges = server.logCount("SSH2_MSG_NEWKEYS received")
      #expect(exchanges > 10)
    }

    /// Nothing is open then that libssh2 could receive by.
    @Test func exchangesKeysWithoutAChannel() throws {
      let server = try Server(["RekeyLimit 1G 1", "LogLevel DEBUG1"])
      let client = try Client(loggedInTo: server)
      try client.wait(for: "three key exchanges") {
        server.logCount("NEWKEYS received") > 3 ? () : nil
      }
      #expect(try client.runCommand("echo still").text == "still\n")
    }

    /// A reader that does not read holds up its own channel and no other.
    @Test func holdsUpOnlyTheChannelThatNobodyReads() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server) { $0.limits.channelWindow = 256 << 10 }
      let stalled = try client.openCommand("head -c 20000000 /dev/zero")
      try client.wait(for: "data") {
        client.notices.contains(.channelReadable(stalled)) ? () : nil
      }
      let result = try client.runCommand("head -c 3000000 /dev/zero | sha256sum")
      #expect(result.exit == .status(0))
      let memory = client.connection.transport.pointee.memory_used
      #expect(memory < 2 << 20, "\(memory) bytes")
      var total = 0
      try client.wait(for: "the rest") {
        if let closed = client.take(where: {
          if case .channelClosed(stalled, _) = $0 { true } else { false }
        }) {
          #expect(closed == .channelClosed(stalled, .status(0)))
          return ()
        }
        total += try client.read(stalled).bytes.count
        return nil
      }
      #expect(total == 20_000_000)
    }

    /// A peer that does not read makes `write` take less, and nothing grows meanwhile.
    @Test func takesNoMoreThanTheOtherSideHasRoomFor() throws {
      let server = try Server()
      let path = "\(server.directory.path)/deaf"
      let listener = try listen(path: path)
      let client = try Client(loggedInTo: server)
      let id = try client.openUnixSocket(path)
      let block = pattern(1 << 20, seed: 6)
      var written = 0
      var quietTurns = 0
      while quietTurns < 20 {
        let count = try client.write(block[...], to: id)
        written += count
        quietTurns = count == 0 ? quietTurns + 1 : 0
        client.turn(atMost: 50)
      }
      #expect(written > 1 << 20)
      #expect(written < 32 << 20)
      #expect(ssh_transport_output_count(client.connection.transport) <= 512 << 10)
      while client.take(where: { $0 == .channelWritable(id) }) != nil {}
      let peer = Descriptor(owning: accept(listener.number, nil, nil))
      var room = [UInt8](repeating: 0, count: 1 << 16)
      var received = 0
      try client.wait(for: "room") {
        while true {
          let count = recv(peer.number, &room, room.count, Int32(MSG_DONTWAIT))
          if count <= 0 { break }
          received += count
        }
        return client.notices.contains(.channelWritable(id)) ? () : nil
      }
      #expect(received > 0)
    }

    @Test func endsOneDirectionAtATime() throws {
      let server = try Server()
      let path = "\(server.directory.path)/half"
      let listener = try listen(path: path)
      let client = try Client(loggedInTo: server)
      let id = try client.openUnixSocket(path)
      let peer = Descriptor(owning: accept(listener.number, nil, nil))
      #expect(try client.write(Array("question".utf8)[...], to: id) == 8)
      try client.connection.finishWriting(id)
      #expect(throws: SSHError.self) { try client.write([1], to: id) }
      var question: [UInt8] = []
      try client.wait(for: "question and its end") {
        var room = [UInt8](repeating: 0, count: 100)
        let count = recv(peer.number, &room, room.count, Int32(MSG_DONTWAIT))
        question += room.prefix(max(0, count))
        return count == 0 ? () : nil
      }
      #expect(question == Array("question".utf8))
      _ = Glibc.send(peer.number, "answer", 6, Int32(MSG_NOSIGNAL))
      var answer: [UInt8] = []
      try client.wait(for: "answer") {
        answer += try client.read(id).bytes
        return answer.count == 6 ? () : nil
      }
      #expect(answer == Array("answer".utf8))
      peer.close()
      try client.wait(for: "close") {
        client.notices.contains(.channelClosed(id, nil)) ? () : nil
      }
    }

    @Test(arguments: [0, 1, 42, 255])
    func tellsTheExitStatus(code: UInt32) throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      #expect(try client.runCommand("exit \(code)").exit == .status(code))
    }

    @Test func tellsTheSignalThatEndedACommand() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      #expect(try client.runCommand("kill -TERM $$").exit == .signal("TERM"))
      #expect(try client.runCommand("kill -KILL $$").exit == .signal("KILL"))
    }

    @Test func keepsOutputAndErrorApart() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let result = try client.runCommand(
        "head -c 500000 /dev/zero; head -c 400000 /dev/zero >&2; printf x")
      #expect(result.output.count == 500_001)
      #expect(result.error.count == 400_000)
    }

    @Test func runsCommandsSideBySide() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let slow = try client.openCommand("cat")
      #expect(try client.runCommand("echo quick").text == "quick\n")
      _ = try client.write(Array("slow".utf8)[...], to: slow)
      try client.connection.finishWriting(slow)
      try client.wait(for: "echo") {
        try client.read(slow).bytes == Array("slow".utf8) ? () : nil
      }
    }

    @Test func closesAChannelThatIsStillTalking() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let id = try client.openCommand("yes")
      try client.wait(for: "output") {
        client.notices.contains(.channelReadable(id)) ? () : nil
      }
      client.connection.close(id, at: now())
      try client.wait(for: "close") {
        client.notices.contains(.channelClosed(id, nil)) ? () : nil
      }
      #expect(client.connection.channelCount == 0)
      #expect(throws: SSHError.self) { try client.read(id) }
      #expect(try client.runCommand("echo on").text == "on\n")
    }

    @Test func closesAChannelBeforeItIsOpen() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let ids = try (0..<3).map { _ in try client.connection.openCommand("cat", at: now()) }
      client.step()
      for id in ids { client.connection.close(id, at: now()) }
      try client.wait(for: "close") {
        ids.allSatisfy { client.notices.contains(.channelClosed($0, nil)) }
          && client.connection.channelCount == 0 ? () : nil
      }
      #expect(!client.notices.contains { if case .channelOpened = $0 { true } else { false } })
      #expect(try client.runCommand("echo on").text == "on\n")
    }
  }
}

/// Bytes that look random and can be made again.
func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
  var random = SplitMix64(seed: seed)
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count + 8)
  while bytes.count < count {
    withUnsafeBytes(of: random.next()) { bytes += $0 }
  }
  bytes.removeLast(bytes.count - count)
  return bytes
}

/// A program that sends back what it gets.
final class Echo {
  let path: String
  let port: UInt16
  private let child: ChildProcess

  static func unix(_ directory: TemporaryDirectory) throws -> Echo {
    let path = "\(directory.path)/echo"
    return try Echo("UNIX-LISTEN:\(path),fork,backlog=128", path: path, port: 0)
  }

  static func tcp() throws -> Echo {
    let port = try unusedPort()
    return try Echo("TCP-LISTEN:\(port),bind=127.0.0.1,fork,reuseaddr", path: "", port: port)
  }

  private init(_ address: String, path: String, port: UInt16) throws {
    self.path = path
    self.port = port
    child = try ChildProcess(arguments: ["socat", address, "EXEC:cat"])
    let end = MonotonicClock.now + patience
    while true {
      if port != 0, (try? connect(to: port)) != nil { return }
      if port == 0, access(path, F_OK) == 0 { return }
      guard MonotonicClock.now < end, child.reap() == .running else {
        throw TestFailure("no echo")
      }
      usleep(10_000)
    }
  }

  deinit {
    child.terminate()
    end(of: child)
  }
}

extension Client {
  /// Writes `bytes` to each channel, ends it, and reads until its end; what each brought.
  func exchange(_ bytes: [UInt8], over ids: [SSHChannelID]) throws -> [[UInt8]] {
    var rests = ids.map { _ in bytes[...] }
    var received = ids.map { _ in [UInt8]() }
    var open = Set(ids.indices)
    return try wait(for: "echo") {
      if let failure { throw failure }
      for index in ids.indices where open.contains(index) {
        if take(where: { $0 == .channelClosed(ids[index], nil) }) != nil {
          open.remove(index)
          continue
        }
        if !rests[index].isEmpty {
          rests[index] = rests[index].dropFirst(try write(rests[index], to: ids[index]))
          if rests[index].isEmpty { try connection.finishWriting(ids[index]) }
        }
        received[index] += try read(ids[index]).bytes
      }
      return open.isEmpty ? received : nil
    }
  }
}
