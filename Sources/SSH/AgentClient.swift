import Platform

/// A conversation with an ssh-agent: one request and its answer at a time, never waiting.
///
/// libssh2 has an agent client too, which connects, sends and receives in blocking calls.
final class AgentClient {
  /// A key that the agent holds.
  struct Identity {
    let key: PublicKey
    let comment: String
  }

  enum Progress {
    case waiting
    case identities([Identity])
    /// The signature without its type's name; empty if the agent refused.
    case signature([UInt8])
    /// The agent went away or talks nonsense; the reason in words.
    case failed(String)
  }

  /// Longer messages are no answers of an agent; OpenSSH has the same limit.
  static let messageLimit = 256 << 10
  /// Keys beyond it are passed over.
  static let identityLimit = 64

  let descriptor: Descriptor
  private var output: [UInt8] = []
  private var input: [UInt8] = []
  private var expectation = Expectation.nothing

  private enum Expectation {
    case nothing
    case identities
    case signature(algorithm: String)
  }

  private enum Message {
    static let requestIdentities: UInt8 = 11
    static let identities: UInt8 = 12
    static let requestSignature: UInt8 = 13
    static let signature: UInt8 = 14
  }

  init(socket path: String) throws(SystemError) {
    descriptor = try StreamSocket.connect(to: SocketAddress(unixPath: path)).descriptor
  }

  var interest: SSHInterest {
    SSHInterest(
      descriptor: descriptor.number, wantsRead: descriptor.isOpen, wantsWrite: !output.isEmpty)
  }

  func requestIdentities() {
    expectation = .identities
    send([Message.requestIdentities])
  }

  /// Asks for a signature of `input`, the data of RFC 4252, section 7.
  ///
  /// False if `input` does not name its algorithm.
  func requestSignature(by key: PublicKey, of input: [UInt8]) -> Bool {
    guard let algorithm = Self.algorithm(of: input) else { return false }
    let flags: UInt32 =
      switch algorithm {
      case "rsa-sha2-256": 2
      case "rsa-sha2-512": 4
      default: 0
      }
    var message = WireWriter()
    message.append(byte: Message.requestSignature)
    message.append(string: key.blob)
    message.append(string: input)
    message.append(number: flags)
    expectation = .signature(algorithm: algorithm)
    send(message.bytes)
    return true
  }

  /// Sends and receives what goes without waiting.
  func step() -> Progress {
    do throws(SystemError) {
      try sendOutput()
      guard try receiveInput() else { return .failed("the agent closed the connection") }
    } catch {
      return .failed(error.text)
    }
    var reader = WireReader(input)
    guard let length = reader.number() else { return .waiting }
    guard length > 0, length <= Self.messageLimit else {
      return .failed("the agent's answer has an impossible length")
    }
    guard input.count >= Int(length) + 4 else { return .waiting }
    let message = Array(input[4..<4 + Int(length)])
    input.removeFirst(4 + Int(length))
    return interpret(message)
  }

  private func send(_ message: [UInt8]) {
    var framed = WireWriter()
    framed.append(string: message)
    output += framed.bytes
  }

  private func sendOutput() throws(SystemError) {
    while !output.isEmpty {
      var failure: SystemError?
      let sent = output.withUnsafeBytes { bytes -> Transfer in
        do throws(SystemError) {
          return try StreamSocket.send(bytes, to: descriptor)
        } catch {
          failure = error
          return .wouldBlock
        }
      }
      if let failure { throw failure }
      guard case .moved(let count) = sent else { return }
      output.removeFirst(count)
    }
  }

  /// False at the end of the stream.
  private func receiveInput() throws(SystemError) -> Bool {
    while input.count < Self.messageLimit + 4 {
      var room = [UInt8](repeating: 0, count: 4096)
      var failure: SystemError?
      let received = room.withUnsafeMutableBytes { bytes -> Transfer in
        do throws(SystemError) {
          return try StreamSocket.receive(descriptor, into: bytes)
        } catch {
          failure = error
          return .wouldBlock
        }
      }
      if let failure { throw failure }
      switch received {
      case .moved(let count): input += room.prefix(count)
      case .wouldBlock: return true
      case .endOfStream: return false
      }
    }
    return true
  }

  private func interpret(_ message: [UInt8]) -> Progress {
    var reader = WireReader(message)
    let type = reader.byte()
    defer { expectation = .nothing }
    switch expectation {
    case .nothing:
      return .failed("the agent answered without having been asked")
    case .identities:
      // A locked agent, or one without keys for us, answers with a failure: it has none.
      guard type == Message.identities else { return .identities([]) }
      return .identities(identities(&reader))
    case .signature(let algorithm):
      guard type == Message.signature, let signature = reader.string() else {
        return .signature([])
      }
      var parts = WireReader(signature)
      guard parts.text() == algorithm, let bytes = parts.string() else { return .signature([]) }
      return .signature(bytes)
    }
  }

  private func identities(_ reader: inout WireReader<ArraySlice<UInt8>>) -> [Identity] {
    var found: [Identity] = []
    let count = reader.number() ?? 0
    while found.count < min(Int(count), Self.identityLimit) {
      guard let blob = reader.string(), let comment = reader.text() else { break }
      guard let key = PublicKey(blob: blob) else { break }
      found.append(Identity(key: key, comment: Self.printable(comment)))
    }
    return found
  }

  private static func printable(_ comment: String) -> String {
    String(comment.unicodeScalars.prefix(80).filter { $0.value >= 32 && $0.value < 127 })
  }

  /// The signature algorithm that the data to be signed names after session, user and service.
  private static func algorithm(of input: [UInt8]) -> String? {
    var reader = WireReader(input)
    guard reader.string() != nil, reader.byte() == 50, reader.string() != nil,
      reader.string() != nil, reader.text() == "publickey", reader.byte() == 1
    else { return nil }
    return reader.text()
  }
}
