import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

extension SSHTests {
  @Suite struct HostKey {
    private let fixture = Fixture.shared

    private func client(
      _ server: Server, knownHosts: String, alias: String? = nil,
      _ change: (inout SSHConfiguration) -> Void = { _ in }
    ) throws -> (Client, file: String) {
      var configuration = try server.configuration()
      let file = try server.directory.write("known", knownHosts)
      configuration.hostKeyRule = .knownHosts(files: [file], alias: alias)
      change(&configuration)
      return (try Client(configuration), file)
    }

    private func verified(_ client: Client) throws -> SSHHostKey {
      try client.wait(for: "host key") {
        if let failure = client.failure { throw failure }
        for case .hostKeyVerified(let key) in client.notices { return key }
        return nil
      }
    }

    @Test func knowsTheHostByItsLine() throws {
      let server = try Server()
      let (client, file) = try client(
        server,
        knownHosts: "# a comment\n\nother ssh-ed25519 AAAA\n"
          + "[localhost]:\(server.port) \(fixture.publicKey("host_ed25519")) a comment\n")
      let key = try verified(client)
      #expect(key.type == "ssh-ed25519")
      #expect(key.fingerprint == (try fixture.fingerprint("host_ed25519")))
      #expect(key.line == .init(file: file, number: 4))
    }

    @Test func knowsTheHostByItsHashedName() throws {
      let server = try Server()
      let path = try server.directory.write(
        "hashed", "[localhost]:\(server.port) \(fixture.publicKey("host_ed25519"))\n")
      try run("ssh-keygen", "-q", "-H", "-f", path)
      let text = readFile(path)
      #expect(text.hasPrefix("|1|"))
      let (client, _) = try client(server, knownHosts: text)
      #expect(try verified(client).line?.number == 1)
    }

    @Test func knowsTheHostWithoutItsPort() throws {
      let server = try Server()
      let (client, _) = try client(
        server, knownHosts: "localhost \(fixture.publicKey("host_ed25519"))\n")
      #expect(try verified(client).line?.number == 1)
    }

    @Test(arguments: ["*", "local*", "l?calhost", "LOCALHOST", "a,localhost", "*,!other"])
    func knowsTheHostByAPattern(pattern: String) throws {
      let server = try Server()
      let (client, _) = try client(
        server, knownHosts: "\(pattern) \(fixture.publicKey("host_ed25519"))\n")
      _ = try verified(client)
    }

    @Test func leavesOutWhatAPatternExcludes() throws {
      let server = try Server()
      let (client, _) = try client(
        server,
        knownHosts: "*,!localhost,![localhost]:* \(fixture.publicKey("host_ed25519"))\n")
      #expect(try client.waitForFailure().reason == .hostKeyUnknown)
    }

    @Test func knowsTheHostByItsAlias() throws {
      let server = try Server()
      let (client, _) = try client(
        server, knownHosts: "node2 \(fixture.publicKey("host_ed25519"))\n", alias: "node2")
      #expect(try verified(client).line?.number == 1)
      let (other, _) = try self.client(
        server, knownHosts: "localhost \(fixture.publicKey("host_ed25519"))\n", alias: "node2")
      let error = try other.waitForFailure()
      #expect(error.reason == .hostKeyUnknown)
      #expect(error.text.contains("node2 (alias of localhost)"))
    }

    @Test func asksForTheTypeOfKeyThatIsKnown() throws {
      let server = try Server(hostKeys: ["host_ed25519", "host_ecdsa"])
      let (client, _) = try client(
        server, knownHosts: "[localhost]:\(server.port) \(fixture.publicKey("host_ecdsa"))\n")
      #expect(try verified(client).type == "ecdsa-sha2-nistp256")
    }

    @Test func readsTheUsersFileAndTheSystems() throws {
      let server = try Server()
      let system = try server.directory.write(
        "system", "localhost \(fixture.publicKey("host_ed25519"))\n")
      let (client, _) = try client(server, knownHosts: "") {
        $0.hostKeyRule = .knownHosts(files: ["/nonexistent", system], alias: nil)
      }
      #expect(try verified(client).line == .init(file: system, number: 1))
    }

    @Test func refusesAnUnknownHost() throws {
      let server = try Server()
      let (client, file) = try client(
        server, knownHosts: "@cert-authority * \(fixture.publicKey("host_other"))\n")
      let error = try client.waitForFailure()
      #expect(error.reason == .hostKeyUnknown)
      #expect(error.step == .hostKey)
      #expect(error.text.contains(try fixture.fingerprint("host_ed25519")))
      #expect(error.text.contains("@cert-authority in \(file) line 1"))
      #expect(!server.log.contains("Accepted"))
    }

    @Test func refusesAChangedKey() throws {
      let server = try Server()
      let (client, file) = try client(
        server,
        knownHosts: "\n[localhost]:\(server.port) \(fixture.publicKey("host_other"))\n")
      let error = try client.waitForFailure()
      #expect(error.reason == .hostKeyChanged)
      #expect(error.text.contains("\(file) line 2"))
      #expect(error.text.contains(try fixture.fingerprint("host_ed25519")))
      #expect(error.text.contains(try fixture.fingerprint("host_other")))
      #expect(error.hostKey?.line == .init(file: file, number: 2))
      #expect(!error.anotherCarrierMayWork)
    }

    @Test func refusesAKeyOfAnotherType() throws {
      let server = try Server()
      let (client, file) = try client(
        server, knownHosts: "[localhost]:\(server.port) \(fixture.publicKey("host_ecdsa"))\n")
      let error = try client.waitForFailure()
      #expect(error.reason == .hostKeyOfOtherType)
      #expect(error.text.contains("ECDSA in \(file) line 1"))
    }

    @Test func refusesARevokedKey() throws {
      let server = try Server()
      let key = fixture.publicKey("host_ed25519")
      let (client, file) = try client(
        server, knownHosts: "[localhost]:\(server.port) \(key)\n@revoked * \(key)\n")
      let error = try client.waitForFailure()
      #expect(error.reason == .hostKeyRevoked)
      #expect(error.text.contains("\(file) line 2"))
    }

    @Test func pinsAFingerprint() throws {
      let server = try Server()
      let fingerprint = try fixture.fingerprint("host_ed25519")
      let (client, _) = try client(server, knownHosts: "") {
        $0.hostKeyRule = .pinned(fingerprint: fingerprint)
      }
      #expect(try verified(client).line == nil)
      let (other, _) = try self.client(server, knownHosts: "") {
        $0.hostKeyRule = .pinned(fingerprint: "SHA256:\(String(repeating: "A", count: 43))")
      }
      let error = try other.waitForFailure()
      #expect(error.reason == .hostKeyNotPinned)
      #expect(error.text.contains(fingerprint))
    }

    @Test func usesAnRSAHostOrSaysWhatWould() throws {
      let server = try Server(hostKeys: ["host_rsa"])
      let (client, _) = try client(
        server, knownHosts: "[localhost]:\(server.port) \(fixture.publicKey("host_rsa"))\n")
      if SSHLibrary.loaded.canUseRSASHA2 {
        #expect(try verified(client).type == "ssh-rsa")
      } else {
        let error = try client.waitForFailure()
        #expect(error.reason == .hostKeyUnusable)
        #expect(error.anotherCarrierMayWork)
        #expect(error.text.contains("RSA"))
        #expect(error.text.contains("1.11"))
      }
    }

    /// The host has better keys, and only its RSA key is known.
    @Test func saysThatOnlyAnRSAKeyIsKnown() throws {
      let server = try Server(hostKeys: ["host_rsa", "host_ed25519"])
      let (client, _) = try client(
        server, knownHosts: "[localhost]:\(server.port) \(fixture.publicKey("host_rsa"))\n"
      ) { $0.library = SSHLibrary(version: "1.10.0") }
      let error = try client.waitForFailure()
      #expect(error.reason == .hostKeyUnusable)
      #expect(error.anotherCarrierMayWork)
      #expect(error.text.contains("cannot check RSA host keys"))
    }
  }
}
