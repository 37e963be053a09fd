import Glibc
import Platform

/// A private key's file, looked at from outside: its type, its public half, whether it is encrypted.
///
/// The private part is left to libssh2.
struct PrivateKeyFile {
  /// Longer files are no keys.
  static let sizeLimit = 64 << 10

  let path: String
  /// The file as it is.
  let text: SecretBytes
  let passphrase: SecretBytes?
  /// The public half; nil where neither the file nor a `.pub` beside it shows it.
  let publicKey: PublicKey?

  enum Loading {
    case loaded(PrivateKeyFile)
    case unusable(SSHKeyAttempt)
  }

  /// Reads the key; **blocks** as long as reading takes.
  static func load(_ file: SSHConfiguration.KeyFile) -> Loading {
    let text: SecretBytes
    do throws(SystemError) {
      let (bytes, owner, mode) = try SmallFile.readSecret(file.path, limit: sizeLimit)
      // The owner alone is asked, as OpenSSH does: another user's file is that user's affair.
      if owner == geteuid(), mode & 0o077 != 0 { return unusable(file, nil, .tooOpen) }
      text = bytes
    } catch {
      return unusable(file, nil, .missing(error.text))
    }
    guard let shape = KeyShape(text) else { return unusable(file, nil, .unreadable) }
    let publicKey = shape.publicKey ?? companion(of: file.path)
    if let publicKey, !publicKey.isUsableForAuthentication {
      return unusable(file, publicKey, .unusableType)
    }
    // Without a passphrase the cryptographic library would ask for one at the terminal.
    if shape.isEncrypted, file.passphrase == nil {
      return unusable(file, publicKey, .needsPassphrase)
    }
    return .loaded(
      PrivateKeyFile(
        path: file.path, text: text, passphrase: shape.isEncrypted ? file.passphrase : nil,
        publicKey: publicKey))
  }

  private static func unusable(
    _ file: SSHConfiguration.KeyFile, _ key: PublicKey?, _ outcome: SSHKeyAttempt.Outcome
  ) -> Loading {
    .unusable(
      SSHKeyAttempt(
        source: file.path, type: key?.type, fingerprint: key?.fingerprint, outcome: outcome))
  }

  /// The key in `path.pub`, which OpenSSH writes beside each private key.
  private static func companion(of path: String) -> PublicKey? {
    guard let text = try? SmallFile.read(path + ".pub", limit: sizeLimit) else { return nil }
    let fields = text.split(whereSeparator: { $0 == 32 || $0 == 10 || $0 == 13 })
    guard fields.count >= 2, let blob = Base64.decode(fields[1]) else { return nil }
    return PublicKey(blob: blob)
  }
}

/// What the outside of a private key's file shows.
private struct KeyShape {
  let isEncrypted: Bool
  let publicKey: PublicKey?

  /// Nil if it is no private key.
  init?(_ text: SecretBytes) {
    let found = text.withBytes { bytes -> (isEncrypted: Bool, publicKey: PublicKey?)? in
      let body = UnsafeRawBufferPointer(bytes)
      if body.starts(with: Self.begin("OPENSSH PRIVATE KEY")) { return Self.openSSH(body) }
      if body.starts(with: Self.begin("ENCRYPTED PRIVATE KEY")) { return (true, nil) }
      for kind in ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"]
      where body.starts(with: Self.begin(kind)) {
        // RFC 1421's header is the first line where it is there at all.
        return (body.dropFirst(kind.utf8.count + 17).starts(with: "Proc-Type: 4,ENC".utf8), nil)
      }
      return nil
    }
    guard let found else { return nil }
    isEncrypted = found.isEncrypted
    publicKey = found.publicKey
  }

  private static func begin(_ kind: String) -> [UInt8] { Array("-----BEGIN \(kind)-----\n".utf8) }

  /// `openssh-key-v1`: cipher, key derivation and public key lie open before the private part.
  private static func openSSH(
    _ text: UnsafeRawBufferPointer
  ) -> (isEncrypted: Bool, publicKey: PublicKey?)? {
    let start = begin("OPENSSH PRIVATE KEY").count
    let encoded = text.dropFirst(start).prefix { $0 != UInt8(ascii: "-") }
    var decoded: Int?
    let body = SecretBytes(capacity: encoded.count) { room in
      decoded = Base64.decode(encoded, into: room)
      return decoded ?? 0
    }
    guard decoded != nil else { return nil }
    return body.withBytes { bytes in
      var reader = WireReader(UnsafeRawBufferPointer(bytes)[...])
      guard reader.skip(Array("openssh-key-v1\0".utf8)), let cipher = reader.text(),
        reader.string() != nil, reader.string() != nil, reader.number() == 1,
        let blob = reader.string()
      else { return nil }
      return (cipher != "none", PublicKey(blob: blob))
    }
  }
}
