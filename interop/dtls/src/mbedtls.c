/* One end of Mbed TLS on UDP: `mbedtls client|server PORT PEM`. Prints its suite, then what it reads;
 * the server sends everything back, the client speaks first. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cookie.h>
#include <mbedtls/timing.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

static void check(int code, const char *what)
{
    if (code < 0) {
        printf("%s failed: -0x%04x\n", what, -code);
        fflush(stdout);
        _Exit(1);
    }
}

/* Any certificate will do: its owner has proved to have the key. */
static int accept_any(void *context, mbedtls_x509_crt *certificate, int depth, uint32_t *flags)
{
    (void) context;
    (void) certificate;
    (void) depth;
    *flags = 0;
    return 0;
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    int is_server = strcmp(arguments[1], "server") == 0;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_cookie_ctx cookies;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_net_context listening, socket;
    mbedtls_timing_delay_context timer;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_cookie_init(&cookies);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    mbedtls_net_init(&listening);
    mbedtls_net_init(&socket);
    check(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    check(mbedtls_x509_crt_parse_file(&certificate, arguments[3]), "certificate");
    check(mbedtls_pk_parse_keyfile(&key, arguments[3], NULL), "key");
    check(mbedtls_ssl_config_defaults(&config,
                                      is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                      MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT),
          "defaults");
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_verify(&config, accept_any, NULL);
    mbedtls_ssl_conf_ca_chain(&config, &certificate, NULL);
    mbedtls_ssl_conf_handshake_timeout(&config, 200, 2000);
    check(mbedtls_ssl_conf_own_cert(&config, &certificate, &key), "own certificate");
    check(mbedtls_ssl_cookie_setup(&cookies, mbedtls_ctr_drbg_random, &random), "cookies");
    mbedtls_ssl_conf_dtls_cookies(&config, mbedtls_ssl_cookie_write, mbedtls_ssl_cookie_check,
                                  &cookies);
    check(mbedtls_ssl_setup(&ssl, &config), "setup");
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    mbedtls_ssl_set_mtu(&ssl, 600);
    if (is_server)
        check(mbedtls_net_bind(&listening, "127.0.0.1", arguments[2], MBEDTLS_NET_PROTO_UDP),
              "bind");
    else
        check(mbedtls_net_connect(&socket, "127.0.0.1", arguments[2], MBEDTLS_NET_PROTO_UDP),
              "connect");
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (is_server) {
            unsigned char peer[16];
            size_t len;
            mbedtls_net_free(&socket);
            check(mbedtls_ssl_session_reset(&ssl), "reset");
            check(mbedtls_net_accept(&listening, &socket, peer, sizeof peer, &len), "accept");
            check(mbedtls_ssl_set_client_transport_id(&ssl, peer, len), "identity");
        }
        mbedtls_ssl_set_bio(&ssl, &socket, mbedtls_net_send, mbedtls_net_recv,
                            mbedtls_net_recv_timeout);
        int code;
        do
            code = mbedtls_ssl_handshake(&ssl);
        while (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE);
        if (code == MBEDTLS_ERR_SSL_HELLO_VERIFY_REQUIRED)
            continue;
        check(code, "handshake");
        break;
    }
    printf("suite %s\n", mbedtls_ssl_get_ciphersuite(&ssl));
    fflush(stdout);
    if (!is_server)
        check(mbedtls_ssl_write(&ssl, (const unsigned char *) "from mbedtls\n", 13), "write");
    for (;;) {
        unsigned char buffer[2048];
        int len = mbedtls_ssl_read(&ssl, buffer, sizeof buffer);
        if (len == MBEDTLS_ERR_SSL_WANT_READ || len == MBEDTLS_ERR_SSL_WANT_WRITE ||
            len == MBEDTLS_ERR_SSL_TIMEOUT)
            continue;
        if (len <= 0) {
            printf("closed -0x%04x\n", -len);
            fflush(stdout);
            return 0;
        }
        fwrite(buffer, 1, (size_t) len, stdout);
        fflush(stdout);
        if (is_server)
            check(mbedtls_ssl_write(&ssl, buffer, (size_t) len), "write");
    }
}
