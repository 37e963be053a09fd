/// A public key as SSH names and encodes it.
struct PublicKey: Hashable, Sendable {
  /// The type that the key says of itself, such as `ssh-ed25519`.
  let type: String
  /// The encoding of RFC 4253, section 6.6.
  let blob: [UInt8]

  /// Nil unless the encoding begins with a type's name.
  init?(blob: [UInt8]) {
    var reader = WireReader(blob)
    guard let type = reader.text(), !type.isEmpty, type.utf8.count <= 64,
      type.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
    else { return nil }
    self.type = type
    self.blob = blob
  }

  /// The fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64.
  var fingerprint: String { "SHA256:" + Base64.encode(Digest.sha256(blob), padded: false) }

  /// What people call the type.
  var shortType: String {
    switch type {
    case "ssh-ed25519": "ED25519"
    case "ssh-rsa": "RSA"
    case "ssh-dss": "DSA"
    case _ where type.hasPrefix("ecdsa-sha2-"): "ECDSA"
    default: type
    }
  }

  var isRSA: Bool { type == "ssh-rsa" }

  /// Whether libssh2 can sign with the private half, RSA's SHA-2 aside.
  var isUsableForAuthentication: Bool {
    switch type {
    case "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
      "ecdsa-sha2-nistp521":
      true
    default: false
    }
  }
}
