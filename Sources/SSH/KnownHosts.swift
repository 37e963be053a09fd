import Glibc

/// One line of a known_hosts file that speaks of the host in question.
struct KnownHostEntry: Hashable, Sendable {
  enum Mark: Hashable, Sendable {
    case none, revoked, certificateAuthority
  }

  let file: String
  let line: Int
  let mark: Mark
  let key: PublicKey
}

/// What the known_hosts files say of one host.
///
/// They are read once, before the handshake: which types of key are known decides which are asked
/// for. Whole lines count as OpenSSH counts them: lists and wildcards, `!`, hashed names,
/// `[host]:port`, `@revoked`. What is not understood is passed over, and so is
/// `@cert-authority`, since libssh2 checks no host certificates.
struct KnownHosts: Sendable {
  /// Longer files are not read: something else lies in their place.
  static let fileSizeLimit = 16 << 20
  /// Lines beyond it that name the same host are passed over.
  static let entryLimit = 256

  /// The lines that name the host, in the order of the files.
  private(set) var entries: [KnownHostEntry] = []
  /// Lines that name it only without the port that is not 22; a key found there is good, but
  /// another one there is no contradiction.
  private(set) var portlessEntries: [KnownHostEntry] = []
  /// The files that were there and could be read.
  private(set) var filesRead: [String] = []
  /// The files that could not be read, with the reason.
  private(set) var filesUnread: [UnreadFile] = []

  struct UnreadFile: Hashable, Sendable {
    let file: String
    let reason: String
  }

  /// Reads `files` for `host`; **blocks** as long as reading them takes.
  ///
  /// With an alias the port plays no part, as with OpenSSH's `HostKeyAlias`.
  init(files: [String], host: String, port: UInt16, alias: String?) {
    let plain = asciiLowercased(alias ?? host)
    let hasPort = alias == nil && port != 22
    let name = hasPort ? "[\(plain)]:\(port)" : plain
    for file in files {
      do {
        let text = try SmallFile.read(file, limit: Self.fileSizeLimit)
        filesRead.append(file)
        collect(from: text, file: file, name: name, portlessName: hasPort ? plain : nil)
      } catch {
        filesUnread.append(UnreadFile(file: file, reason: error.text))
      }
    }
  }

  /// The types of the keys that are known and not revoked, each once, in the order of the files.
  var keyTypes: [String] {
    var types: [String] = []
    for entry in entries + portlessEntries
    where entry.mark == .none && !types.contains(entry.key.type) {
      types.append(entry.key.type)
    }
    return types
  }

  enum Verdict: Hashable, Sendable {
    case known(KnownHostEntry)
    case revoked(KnownHostEntry)
    /// Another key of the same type is known.
    case changed([KnownHostEntry])
    /// Only keys of other types are known.
    case otherType([KnownHostEntry])
    case unknown
  }

  /// What the files say of the key that the server showed.
  func check(_ key: PublicKey) -> Verdict {
    let everything = entries + portlessEntries
    if let entry = everything.first(where: { $0.mark == .revoked && $0.key.blob == key.blob }) {
      return .revoked(entry)
    }
    if let entry = everything.first(where: { $0.mark == .none && $0.key.blob == key.blob }) {
      return .known(entry)
    }
    let plain = entries.filter { $0.mark == .none }
    let sameType = plain.filter { $0.key.type == key.type }
    if !sameType.isEmpty { return .changed(sameType) }
    return plain.isEmpty ? .unknown : .otherType(plain)
  }

  private mutating func collect(
    from text: [UInt8], file: String, name: String, portlessName: String?
  ) {
    var number = 0
    for line in text.split(separator: 10, omittingEmptySubsequences: false) {
      number += 1
      guard let fields = KnownHostLine(line) else { continue }
      if fields.names(name) {
        append(fields, file, number, to: \.entries)
      } else if let portlessName, fields.names(portlessName) {
        append(fields, file, number, to: \.portlessEntries)
      }
    }
  }

  private mutating func append(
    _ fields: KnownHostLine, _ file: String, _ line: Int,
    to list: WritableKeyPath<KnownHosts, [KnownHostEntry]>
  ) {
    guard self[keyPath: list].count < Self.entryLimit,
      let blob = Base64.decode(fields.encodedKey), let key = PublicKey(blob: blob)
    else { return }
    self[keyPath: list].append(
      KnownHostEntry(file: file, line: line, mark: fields.mark, key: key))
  }
}

/// One line taken apart; the key stays encoded until the names match.
private struct KnownHostLine {
  let mark: KnownHostEntry.Mark
  let hosts: ArraySlice<UInt8>
  let encodedKey: ArraySlice<UInt8>

  /// Nil for a comment, an empty line, and what is not of the form `[mark] names type key`.
  init?(_ line: ArraySlice<UInt8>) {
    var fields = line.split(whereSeparator: { $0 == 32 || $0 == 9 || $0 == 13 })[...]
    guard let first = fields.first, first.first != UInt8(ascii: "#") else { return nil }
    switch String(decoding: first, as: UTF8.self) {
    case "@revoked": mark = .revoked
    case "@cert-authority": mark = .certificateAuthority
    case let text where text.hasPrefix("@"): return nil
    default: mark = .none
    }
    if mark != .none { fields = fields.dropFirst() }
    guard fields.count >= 3 else { return nil }
    hosts = fields[fields.startIndex]
    encodedKey = fields[fields.startIndex + 2]
  }

  func names(_ name: String) -> Bool {
    if hosts.first == UInt8(ascii: "|") { return hashNames(name) }
    let bytes = Array(name.utf8)
    var named = false
    for pattern in hosts.split(separator: UInt8(ascii: ",")) {
      if pattern.first == UInt8(ascii: "!") {
        if matches(bytes[...], pattern.dropFirst()) { return false }
      } else if matches(bytes[...], pattern) {
        named = true
      }
    }
    return named
  }

  /// `|1|salt|hash`: HMAC-SHA1 of the name, keyed with the salt.
  private func hashNames(_ name: String) -> Bool {
    let parts = hosts.split(separator: UInt8(ascii: "|"))
    guard parts.count == 3, parts[0].elementsEqual([UInt8(ascii: "1")]),
      let salt = Base64.decode(parts[1]), let hash = Base64.decode(parts[2]), hash.count == 20
    else { return false }
    return Digest.hmacSHA1(key: salt, message: Array(name.utf8)) == hash
  }

  /// Shell-like matching with `*` and `?`; its time is at most the product of both lengths.
  private func matches(_ name: ArraySlice<UInt8>, _ pattern: ArraySlice<UInt8>) -> Bool {
    var at = name.startIndex
    var wanted = pattern.startIndex
    var retry: (at: Int, wanted: Int)?
    while at < name.endIndex {
      if wanted < pattern.endIndex, pattern[wanted] == UInt8(ascii: "*") {
        wanted += 1
        retry = (at, wanted)
      } else if wanted < pattern.endIndex,
        pattern[wanted] == UInt8(ascii: "?") || lowercased(pattern[wanted]) == name[at]
      {
        at += 1
        wanted += 1
      } else if let last = retry {
        at = last.at + 1
        wanted = last.wanted
        retry = (at, wanted)
      } else {
        return false
      }
    }
    return pattern[wanted...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}

private func lowercased(_ byte: UInt8) -> UInt8 {
  byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte + 32 : byte
}

/// Host names compare without case in ASCII only; nothing here knows locales.
private func asciiLowercased(_ text: String) -> String {
  String(decoding: text.utf8.map(lowercased), as: UTF8.self)
}
