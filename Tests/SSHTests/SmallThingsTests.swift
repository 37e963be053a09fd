import Testing

@testable import SSH

extension SSHTests {
  @Suite struct SmallThings {
    private func hex(_ bytes: [UInt8]) -> String {
      bytes.map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
      }.joined()
    }

    @Test func digestsAgreeWithThePublishedExamples() {
      #expect(hex(Digest.sha1(Array("abc".utf8))) == "a9993e364706816aba3e25717850c26c9cd0d89d")
      #expect(
        hex(Digest.sha256(Array("abc".utf8)))
          == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
      #expect(hex(Digest.sha1([])) == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
      #expect(
        hex(
          Digest.hmacSHA1(
            key: Array("Jefe".utf8), message: Array("what do ya want for nothing?".utf8)))
          == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
      let key = [UInt8](repeating: 0xAA, count: 80)
      #expect(
        hex(
          Digest.hmacSHA1(
            key: key,
            message: Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8)))
          == "aa4ae5e15272d00e95705637ce8a3b55ed402112")
    }

    @Test func digestsAgreeWithTheToolsAtEveryLengthAroundABlock() throws {
      let directory = TemporaryDirectory()
      for count in [1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000] {
        let text = String(repeating: "x", count: count)
        let path = try directory.write("text", text)
        #expect(try run("sha256sum", path).hasPrefix(hex(Digest.sha256(Array(text.utf8)))))
        #expect(try run("sha1sum", path).hasPrefix(hex(Digest.sha1(Array(text.utf8)))))
      }
    }

    @Test func base64GoesBothWays() {
      for count in 0..<70 {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ count) }
        let text = Base64.encode(bytes)
        #expect(text.utf8.count % 4 == 0)
        #expect(Base64.decode(Array(text.utf8)) == bytes)
        #expect(Base64.decode(Array(Base64.encode(bytes, padded: false).utf8)) == bytes)
      }
      for wrong in ["A", "A=", "AA=", "A===", "=AAA", "AA==A", "A*AA", "AAAA=", "AAAAA"] {
        #expect(Base64.decode(Array(wrong.utf8)) == nil, "\(wrong)")
      }
    }

    @Test func versionsDecideWhatTheLibraryCan() {
      for (version, can) in [
        ("1.9.0", false), ("1.10.0", false), ("1.11.0", true), ("1.11.1_DEV", true),
        ("1.11", true), ("2.0", true), ("", false), ("x", false),
      ] {
        #expect(SSHLibrary(version: version).canUseRSASHA2 == can, "\(version)")
      }
      #expect(SSHLibrary.loaded.version.hasPrefix("1."))
    }

    @Test func secretsPrintAsNothing() {
      let text = secret("hidden")
      #expect("\(text)" == "(secret)")
      #expect(String(reflecting: text) == "(secret)")
      #expect(text.count == 6)
    }

    @Test func knownHostsSurviveAnything() throws {
      let directory = TemporaryDirectory()
      var random = SplitMix64(seed: 7)
      let alphabet =
        Array("@revoked|1|*?!,[]:22 \tssh-ed25519AAAAC3Nz=\r\n#localhost".utf8) + [0, 255]
      for _ in 0..<300 {
        let count = Int(random.next() % 400)
        let bytes = (0..<count).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] }
        let path = try directory.write("known", String(decoding: bytes, as: UTF8.self))
        let known = KnownHosts(files: [path], host: "localhost", port: 22, alias: nil)
        #expect(known.filesRead == [path])
      }
    }

    @Test func knownHostsRefuseWhatIsNoFile() {
      let known = KnownHosts(files: ["/dev/zero", "/tmp"], host: "a", port: 22, alias: nil)
      #expect(known.filesRead.isEmpty)
      #expect(known.filesUnread.count == 2)
    }
  }
}

/// A small generator with a seed, so that a failure can be repeated.
struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
