import COpenSSL
import Glibc
import Platform

@testable import SSH

/// A server with real cryptography that lets anybody in and then says whatever a test wants.
///
/// A real server never misbehaves, and without the keys of the session nobody else gets past
/// libssh2's decryption.
final class HostileServer {
  /// Numbers of RFC 4250, section 4.1.2.
  enum Message {
    static let disconnect: UInt8 = 1
    static let ignore: UInt8 = 2
    static let serviceRequest: UInt8 = 5
    static let serviceAccept: UInt8 = 6
    static let keyExchangeInit: UInt8 = 20
    static let newKeys: UInt8 = 21
    static let exchangeInit: UInt8 = 30
    static let exchangeReply: UInt8 = 31
    static let loginRequest: UInt8 = 50
    static let loginFailure: UInt8 = 51
    static let loginSuccess: UInt8 = 52
    static let globalRequest: UInt8 = 80
    static let channelOpen: UInt8 = 90
    static let channelConfirmation: UInt8 = 91
    static let channelFailure: UInt8 = 92
    static let windowAdjust: UInt8 = 93
    static let data: UInt8 = 94
    static let extendedData: UInt8 = 95
    static let end: UInt8 = 96
    static let close: UInt8 = 97
    static let channelRequest: UInt8 = 98
    static let requestSuccess: UInt8 = 99
    static let requestFailure: UInt8 = 100
  }

  static let banner = "SSH-2.0-Hostile"

  let socket: Descriptor
  /// Answers each message that comes after the login.
  var respond: ([UInt8]) -> [[UInt8]] = { _ in [] }
  private(set) var isLoggedIn = false
  private(set) var hasEnded = false
  /// The key that proves who the server is, as in known_hosts.
  let hostKey: PublicKey

  private let signingKey: OpaquePointer
  private var input: [UInt8] = []
  private var output: [UInt8]
  private var clientBanner: [UInt8]?
  private var clientInit: [UInt8] = []
  private var serverInit: [UInt8] = []
  private var sessionID: [UInt8] = []
  private var exchangeHash: [UInt8] = []
  private var sharedSecret: [UInt8] = []
  private var isExchanging = false
  private var incoming = Direction()
  private var outgoing = Direction()

  private struct Direction {
    var cipher: OpaquePointer?
    var macKey: [UInt8] = []
    var sequence: UInt32 = 0
    /// The first block, decrypted to learn the length.
    var head: [UInt8] = []

    mutating func take(_ keys: Keys) {
      EVP_CIPHER_CTX_free(cipher)
      cipher = EVP_CIPHER_CTX_new()
      EVP_EncryptInit_ex(cipher, EVP_aes_128_ctr(), nil, keys.cipher, keys.initialization)
      macKey = keys.mac
    }
  }

  private struct Keys {
    let initialization: [UInt8]
    let cipher: [UInt8]
    let mac: [UInt8]
  }

  init(socket: Descriptor) throws {
    self.socket = socket
    signingKey = try newKey(EVP_PKEY_ED25519)
    var blob = WireWriter()
    blob.append(string: "ssh-ed25519".utf8)
    blob.append(string: rawPublicKey(signingKey))
    guard let key = PublicKey(blob: blob.bytes) else { throw TestFailure("no host key") }
    hostKey = key
    output = Array("\(Self.banner)\r\n".utf8)
    beginKeyExchange()
  }

  deinit {
    EVP_PKEY_free(signingKey)
    EVP_CIPHER_CTX_free(incoming.cipher)
    EVP_CIPHER_CTX_free(outgoing.cipher)
  }

  var entries: [pollfd] {
    hasEnded
      ? []
      : [
        pollfd(
          fd: socket.number, events: Int16(POLLIN) | (output.isEmpty ? 0 : Int16(POLLOUT)),
          revents: 0)
      ]
  }

  /// Receives, answers and sends what goes without waiting.
  func carry() {
    guard !hasEnded else { return }
    var room = [UInt8](repeating: 0, count: 65_536)
    let count = recv(socket.number, &room, room.count, Int32(MSG_DONTWAIT))
    if count == 0 || count < 0 && errno != EAGAIN {
      hasEnded = true
      return
    }
    if count > 0 { input += room.prefix(count) }
    if clientBanner == nil, let end = input.firstIndex(of: 10) {
      clientBanner = Array(input[..<end].filter { $0 != 13 })
      input.removeFirst(end + 1)
    }
    while clientBanner != nil, let payload = nextPacket() { handle(payload) }
    let sent = Glibc.send(
      socket.number, output, output.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
    if sent > 0 { output.removeFirst(sent) }
  }

  /// Sends one message as it is.
  func send(_ payload: [UInt8]) {
    let block = outgoing.cipher == nil ? 8 : 16
    var padding = block - (payload.count + 5) % block
    if padding < 4 { padding += block }
    var packet = WireWriter()
    packet.append(number: UInt32(payload.count + 1 + padding))
    packet.append(byte: UInt8(padding))
    sendWhole(packet.bytes + payload + [UInt8](repeating: 0, count: padding))
  }

  /// Encrypts and sends a packet whose length fields may say anything.
  func sendWhole(_ packet: [UInt8]) {
    if let cipher = outgoing.cipher {
      let mac = authentication(of: packet, outgoing)
      output += crypt(packet, cipher) + mac
    } else {
      output += packet
    }
    outgoing.sequence &+= 1
  }

  /// Sends bytes past the encryption.
  func sendRaw(_ bytes: [UInt8]) { output += bytes }

  /// Asks for new keys.
  func beginKeyExchange() {
    var message = WireWriter()
    message.append(byte: Message.keyExchangeInit)
    for _ in 0..<16 { message.append(byte: 7) }
    let lists = [
      "curve25519-sha256,curve25519-sha256@libssh.org", "ssh-ed25519", "aes128-ctr", "aes128-ctr",
      "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", "",
    ]
    for list in lists { message.append(string: list.utf8) }
    message.append(byte: 0)
    message.append(number: 0)
    serverInit = message.bytes
    isExchanging = true
    send(message.bytes)
  }

  // MARK: Messages

  private func handle(_ payload: [UInt8]) {
    switch payload.first {
    case Message.keyExchangeInit:
      clientInit = payload
      if !isExchanging { beginKeyExchange() }
    case Message.exchangeInit: exchangeKeys(payload)
    case Message.newKeys: incoming.take(keys(from: "A", "C", "E"))
    case Message.serviceRequest: answer(Message.serviceAccept, "ssh-userauth")
    case Message.loginRequest where !isLoggedIn:
      isLoggedIn = true
      send([Message.loginSuccess])
    default: for message in respond(payload) { send(message) }
    }
  }

  private func answer(_ type: UInt8, _ text: String) {
    var message = WireWriter()
    message.append(byte: type)
    message.append(string: text.utf8)
    send(message.bytes)
  }

  private func exchangeKeys(_ payload: [UInt8]) {
    var reader = WireReader(payload)
    _ = reader.byte()
    guard let clientKey = reader.string(), let ephemeral = try? newKey(EVP_PKEY_X25519),
      let secret = derive(ephemeral, with: clientKey)
    else {
      hasEnded = true
      return
    }
    defer { EVP_PKEY_free(ephemeral) }
    let serverKey = rawPublicKey(ephemeral)
    var shared = WireWriter()
    let stripped = secret.drop { $0 == 0 }
    let isHigh = stripped.first ?? 0 >= 0x80
    shared.append(string: (isHigh ? [0] : []) + stripped)
    sharedSecret = shared.bytes

    var hashed = WireWriter()
    hashed.append(string: clientBanner ?? [])
    hashed.append(string: Self.banner.utf8)
    hashed.append(string: clientInit)
    hashed.append(string: serverInit)
    hashed.append(string: hostKey.blob)
    hashed.append(string: clientKey)
    hashed.append(string: serverKey)
    exchangeHash = Digest.sha256(hashed.bytes + sharedSecret)
    if sessionID.isEmpty { sessionID = exchangeHash }

    var signature = WireWriter()
    signature.append(string: "ssh-ed25519".utf8)
    signature.append(string: sign(exchangeHash))
    var reply = WireWriter()
    reply.append(byte: Message.exchangeReply)
    reply.append(string: hostKey.blob)
    reply.append(string: serverKey)
    reply.append(string: signature.bytes)
    send(reply.bytes)
    send([Message.newKeys])
    outgoing.take(keys(from: "B", "D", "F"))
    isExchanging = false
  }

  // MARK: Packets

  private func nextPacket() -> [UInt8]? {
    guard let cipher = incoming.cipher else {
      guard input.count >= 5 else { return nil }
      let length = Int(number(input[0..<4]))
      guard input.count >= length + 4 else { return nil }
      defer {
        input.removeFirst(length + 4)
        incoming.sequence &+= 1
      }
      return Array(input[5..<(length + 4 - Int(input[4]))])
    }
    if incoming.head.isEmpty {
      guard input.count >= 16 else { return nil }
      incoming.head = crypt(Array(input.prefix(16)), cipher)
      input.removeFirst(16)
    }
    let length = Int(number(incoming.head[0..<4]))
    guard input.count >= length + 4 - 16 + 32 else { return nil }
    let packet = incoming.head + crypt(Array(input.prefix(length + 4 - 16)), cipher)
    input.removeFirst(length + 4 - 16 + 32)
    incoming.head = []
    incoming.sequence &+= 1
    return Array(packet[5..<(packet.count - Int(packet[4]))])
  }

  private func number(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.reduce(0) { $0 << 8 | UInt32($1) }
  }

  // MARK: Cryptography

  private func keys(from letters: String...) -> Keys {
    let parts = letters.map { letter in
      Digest.sha256(sharedSecret + exchangeHash + Array(letter.utf8) + sessionID)
    }
    return Keys(
      initialization: Array(parts[0].prefix(16)), cipher: Array(parts[1].prefix(16)),
      mac: parts[2])
  }

  private func authentication(of packet: [UInt8], _ direction: Direction) -> [UInt8] {
    var message = WireWriter()
    message.append(number: direction.sequence)
    let bytes = message.bytes + packet
    var mac = [UInt8](repeating: 0, count: 32)
    HMAC(
      EVP_sha256(), direction.macKey, Int32(direction.macKey.count), bytes, bytes.count, &mac, nil)
    return mac
  }

  private func sign(_ bytes: [UInt8]) -> [UInt8] {
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    var signature = [UInt8](repeating: 0, count: 64)
    var count = 64
    EVP_DigestSignInit(context, nil, nil, nil, signingKey)
    EVP_DigestSign(context, &signature, &count, bytes, bytes.count)
    return signature
  }

  private func derive(_ key: OpaquePointer, with peer: [UInt8]) -> [UInt8]? {
    guard
      let other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nil, peer, peer.count)
    else { return nil }
    defer { EVP_PKEY_free(other) }
    let context = EVP_PKEY_CTX_new(key, nil)
    defer { EVP_PKEY_CTX_free(context) }
    var secret = [UInt8](repeating: 0, count: 32)
    var count = 32
    guard EVP_PKEY_derive_init(context) == 1, EVP_PKEY_derive_set_peer(context, other) == 1,
      EVP_PKEY_derive(context, &secret, &count) == 1
    else { return nil }
    return secret
  }
}

/// Counter mode: encrypting and decrypting are one.
private func crypt(_ bytes: [UInt8], _ cipher: OpaquePointer) -> [UInt8] {
  var result = [UInt8](repeating: 0, count: bytes.count)
  var count: Int32 = 0
  EVP_EncryptUpdate(cipher, &result, &count, bytes, Int32(bytes.count))
  return result
}

private func newKey(_ type: Int32) throws -> OpaquePointer {
  let context = EVP_PKEY_CTX_new_id(type, nil)
  defer { EVP_PKEY_CTX_free(context) }
  var key: OpaquePointer?
  guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_keygen(context, &key) == 1, let key else {
    throw TestFailure("no key")
  }
  return key
}

private func rawPublicKey(_ key: OpaquePointer) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 32)
  var count = 32
  EVP_PKEY_get_raw_public_key(key, &bytes, &count)
  return bytes
}
