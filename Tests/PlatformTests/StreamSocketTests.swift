import CPlatform
import Glibc
import Testing

@testable import Platform

/// Listens at a path by plain calls, so that the tests decide about backlog and acceptance.
func listenAt(_ path: String, backlog: Int32 = 8) throws -> Descriptor {
  let descriptor = try StreamSocket.make(family: AF_UNIX)
  let address = try SocketAddress(unixPath: path)
  try checked(.bind) { address.withPointer { bind(descriptor.number, $0, $1) } }
  try checked(.listen) { listen(descriptor.number, backlog) }
  return descriptor
}

/// A listening TCP socket on loopback and its port.
func listenOnLoopback(family: Int32 = AF_INET) throws -> (Descriptor, UInt16) {
  let descriptor = try StreamSocket.make(family: family)
  let host = family == AF_INET ? "127.0.0.1" : "::1"
  let address = try #require(SocketAddress(numericHost: host, port: 0))
  try checked(.bind) { address.withPointer { bind(descriptor.number, $0, $1) } }
  try checked(.listen) { listen(descriptor.number, 8) }
  var bound = sockaddr_in6()
  var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
  let named = withUnsafeMutablePointer(to: &bound) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      getsockname(descriptor.number, $0, &length)
    }
  }
  try #require(named == 0)
  // The port is at the same place in both families.
  return (descriptor, UInt16(bigEndian: bound.sin6_port))
}

extension PlatformTests {
  @Suite struct StreamSocketTests {
    let directory = TemporaryDirectory()

    @Test func connectsToAUnixSocketAndMovesBytes() throws {
      let path = directory.path + "/s"
      let listener = try listenAt(path)
      let connection = try StreamSocket.connect(to: SocketAddress(unixPath: path))
      #expect(connection.isEstablished)
      #expect(isClosedOnExec(connection.descriptor.number))
      #expect(fcntl(connection.descriptor.number, F_GETFL) & O_NONBLOCK != 0)
      let server = Descriptor(owning: swp_accept(listener.number))
      #expect(isClosedOnExec(server.number))

      #expect(try receive(connection.descriptor).0 == .wouldBlock)
      #expect(try send("hello", to: server) == .moved(5))
      #expect(try receive(connection.descriptor).1 == Array("hello".utf8))
      #expect(try send("", to: server) == .moved(0))
      server.close()
      #expect(try receive(connection.descriptor).0 == .endOfStream)
    }

    @Test func receivingIntoNoSpaceIsNoEndOfStream() throws {
      let (near, far) = try socketPair()
      _ = try send("x", to: far)
      let none = UnsafeMutableRawBufferPointer(start: nil, count: 0)
      #expect(try StreamSocket.receive(near, into: none) == .moved(0))
    }

    @Test func sendingToAGonePeerIsAnErrorAndRaisesNoSignal() throws {
      let (near, far) = try socketPair()
      far.close()
      #expect(failure { _ = try send("x", to: near) } == SystemError(errno: EPIPE, call: .send))
    }

    @Test func aFullSocketWouldBlock() throws {
      let (near, far) = try socketPair()
      let block = [UInt8](repeating: 1, count: 1 << 16)
      var total = 0
      while case .moved(let count) = try block.withUnsafeBytes({
        try StreamSocket.send($0, to: near)
      }) { total += count }
      #expect(total > 0)
      #expect(try receive(far, limit: 100).0 == .moved(100))
    }

    @Test func refusalsOfAUnixSocketAreToldApart() throws {
      let path = directory.path + "/s"
      func refusal() throws -> ConnectionRefusal? {
        let address = try SocketAddress(unixPath: path)
        return failure { _ = try StreamSocket.connect(to: address) }?.refusal
      }
      #expect(try refusal() == .missing)

      // As QEMU's monitors listen: the queue holds two.
      var listener: Descriptor? = try listenAt(path, backlog: 1)
      let waiting = try (0..<2).map { _ in
        try StreamSocket.connect(to: SocketAddress(unixPath: path))
      }
      #expect(waiting.filter(\.isEstablished).count == 2)
      #expect(try refusal() == .queueFull)
      listener?.close()
      listener = nil
      #expect(try refusal() == .refused)

      let below = try SocketAddress(unixPath: path + "/below")
      #expect(failure { _ = try StreamSocket.connect(to: below) }?.refusal == .missing)
      let user = geteuid()
      if user == 0 {
        // Root may do everything: look as somebody else.
        #expect(
          inFork {
            chmod(directory.path, 0o700)
            seteuid(65534)
            return try refusal() == .denied ? 0 : 1
          } == 0)
      } else {
        chmod(directory.path, 0)
        #expect(try refusal() == .denied)
        chmod(directory.path, 0o700)
      }
    }

    @Test func unixPathsAreMeasured() throws {
      let longest = "/" + String(repeating: "x", count: 106)
      _ = try SocketAddress(unixPath: longest)
      #expect(failure { _ = try SocketAddress(unixPath: longest + "x") }?.errno == ENAMETOOLONG)
      #expect(failure { _ = try SocketAddress(unixPath: "") }?.errno == EINVAL)
      #expect(failure { _ = try SocketAddress(unixPath: "/a\0b") }?.errno == EINVAL)
    }

    @Test(arguments: [AF_INET, AF_INET6])
    func connectsOverTCPWithoutDelay(family: Int32) throws {
      let (listener, port) = try listenOnLoopback(family: family)
      let host = family == AF_INET ? "127.0.0.1" : "::1"
      let address = try #require(SocketAddress(numericHost: host, port: port))
      #expect(address.isTCP && address.isLocal)
      let connection = try StreamSocket.connect(to: address)
      var entry = pollfd(fd: connection.descriptor.number, events: Int16(POLLOUT), revents: 0)
      poll(&entry, 1, 20_000)
      try StreamSocket.finishConnecting(connection.descriptor)
      var value: Int32 = 0
      var length = socklen_t(4)
      getsockopt(
        connection.descriptor.number, Int32(IPPROTO_TCP), TCP_NODELAY, &value, &length)
      #expect(value != 0)
      #expect(isReadable(listener.number, withinMilliseconds: 20_000))
    }

    @Test func aRefusedTCPConnectionIsReportedWhenFinished() throws {
      var port: UInt16 = 0
      do { port = try listenOnLoopback().1 }
      let address = try #require(SocketAddress(numericHost: "127.0.0.1", port: port))
      let error = failure {
        let connection = try StreamSocket.connect(to: address)
        var entry = pollfd(fd: connection.descriptor.number, events: Int16(POLLOUT), revents: 0)
        poll(&entry, 1, 20_000)
        try StreamSocket.finishConnecting(connection.descriptor)
      }
      #expect(error?.refusal == .refused)
    }

    @Test func numericHostsAreNumericOnly() {
      #expect(SocketAddress(numericHost: "localhost", port: 1) == nil)
      #expect(SocketAddress(numericHost: "", port: 1) == nil)
      #expect(SocketAddress(numericHost: "127.0.0.1\0", port: 1) == nil)
      #expect(SocketAddress(numericHost: "192.0.2.1", port: 1)?.isLocal == false)
      #expect(SocketAddress(numericHost: "2001:db8::1", port: 1)?.isLocal == false)
      #expect(SocketAddress(numericHost: "::ffff:127.0.0.1", port: 1)?.isLocal == true)
      #expect(SocketAddress(numericHost: "::ffff:192.0.2.1", port: 1)?.isLocal == false)
    }

    @Test func namesAreResolvedOrNamed() throws {
      #expect(try SocketAddress.resolve(host: "127.0.0.1", port: 80).first?.isLocal == true)
      #expect(throws: ResolutionError.self) {
        try SocketAddress.resolve(host: "host\0name", port: 80)
      }
      #expect(ResolutionErrorProbe.noName.description.hasPrefix("getaddrinfo: "))
    }

    @Test func adoptsADuplicateOfAStreamSocketAlone() throws {
      let (near, far) = try socketPair()
      let flags = fcntl(near.number, F_GETFL)
      let adopted = try StreamSocket.adopt(near.number)
      #expect(adopted.number != near.number)
      #expect(isClosedOnExec(adopted.number))
      // The host program's own flags are untouched, and still nothing blocks.
      #expect(fcntl(near.number, F_GETFL) == flags)
      #expect(try receive(adopted).0 == .wouldBlock)
      adopted.close()
      #expect(try send("x", to: far) == .moved(1))
      #expect(try receive(near).1 == [0x78])

      let file = Descriptor(owning: open("/dev/null", O_RDWR | O_CLOEXEC))
      #expect(failure { _ = try StreamSocket.adopt(file.number) }?.errno == ENOTSOCK)
      #expect(failure { _ = try StreamSocket.adopt(-1) }?.errno == EBADF)
      let datagrams = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0))
      #expect(failure { _ = try StreamSocket.adopt(datagrams.number) }?.errno == EPROTOTYPE)
    }

    @Test func passesADescriptorWithTheFirstByte() throws {
      let (near, far) = try socketPair()
      var pipes: [Int32] = [-1, -1]
      try #require(pipe(&pipes) == 0)
      let (reader, writer) = (Descriptor(owning: pipes[0]), Descriptor(owning: pipes[1]))
      let sent = try Array("getfd".utf8).withUnsafeBytes {
        try StreamSocket.send($0, passing: writer.number, to: near)
      }
      #expect(sent == .moved(5))
      writer.close()
      let (text, passed) = try receiveDescriptor(from: far)
      #expect(text == "getfd")
      let copy = Descriptor(owning: try #require(passed))
      #expect(Glibc.write(copy.number, "y", 1) == 1)
      #expect(isReadable(reader.number))

      let none = UnsafeRawBufferPointer(start: nil, count: 0)
      let error = failure { _ = try StreamSocket.send(none, passing: reader.number, to: near) }
      #expect(error?.errno == EINVAL)
      let bad = failure {
        _ = try [UInt8(1)].withUnsafeBytes { try StreamSocket.send($0, passing: -1, to: near) }
      }
      #expect(bad?.errno == EBADF)
    }

    @Test func failedConnectionsLeaveNothingOpen() {
      let path = directory.path + "/none"
      let code = inFork {
        let before = openDescriptors()
        let address = try SocketAddress(unixPath: path)
        for errno in [EACCES, EMFILE, ENOMEM, EAGAIN] {
          let error = FaultInjection.failing(.connect, errno: errno) {
            failure { _ = try StreamSocket.connect(to: address) }
          }
          if error != SystemError(errno: errno, call: .connect) { return 1 }
        }
        for _ in 0..<100 { _ = try? StreamSocket.connect(to: address) }
        _ = try? StreamSocket.adopt(0)
        return openDescriptors() == before ? 0 : 2
      }
      #expect(code == 0)
    }

    /// Receives by plain calls; the control message's layout is that of 64-bit Linux.
    private func receiveDescriptor(from socket: Descriptor) throws -> (String, Int32?) {
      var bytes = [UInt8](repeating: 0, count: 64)
      var control = [UInt64](repeating: 0, count: 4)
      let controlSize = control.count * 8
      let (count, passed) = bytes.withUnsafeMutableBytes { data in
        control.withUnsafeMutableBytes { space -> (Int, Int32?) in
          var part = iovec(iov_base: data.baseAddress, iov_len: data.count)
          return withUnsafeMutablePointer(to: &part) { part in
            var message = msghdr()
            message.msg_iov = part
            message.msg_iovlen = 1
            message.msg_control = space.baseAddress
            message.msg_controllen = controlSize
            let count = recvmsg(socket.number, &message, 0)
            let hasOne = message.msg_controllen >= 20
            return (count, hasOne ? space.load(fromByteOffset: 16, as: Int32.self) : nil)
          }
        }
      }
      return (String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self), passed)
    }
  }
}

/// An error of the resolver that needs no resolver.
private enum ResolutionErrorProbe {
  static var noName: ResolutionError { ResolutionError(EAI_NONAME) }
}
