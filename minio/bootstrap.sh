#!/bin/sh
# Brings a MinIO server to the state the platform expects: a private bucket whose files end, and a user who may use
# that bucket and nothing else. Can be run any number of times. Runs in MinIO's client image, which has a shell and
# little more, so it keeps to what the shell itself can do.
set -eu

here="${0%/*}"
: "${S3_ENDPOINT:?is not set: the address of the server}"
: "${S3_BUCKET:?is not set: the bucket to make}"
: "${S3_ACCESS_KEY_ID:?is not set: the user to make}"
: "${S3_SECRET_ACCESS_KEY:?is not set: the password of that user}"
: "${MINIO_ROOT_USER:?is not set: the administrator}"
: "${MINIO_ROOT_PASSWORD:?is not set: the password of the administrator}"

mc alias set kiln "$S3_ENDPOINT" "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null

mc mb --ignore-existing "kiln/$S3_BUCKET"
mc anonymous set none "kiln/$S3_BUCKET"
mc ilm rule import "kiln/$S3_BUCKET" <"$here/lifecycle.json"

# The policy of this bucket: BUCKET, at most once a line, becomes its name.
policy=/tmp/kiln-policy.json
while IFS= read -r line; do
    case "$line" in
        *BUCKET*) line="${line%%BUCKET*}$S3_BUCKET${line#*BUCKET}" ;;
    esac
    printf '%s\n' "$line"
done <"$here/policy.json" >"$policy"
mc admin policy create kiln kiln-app "$policy"
mc admin user add kiln "$S3_ACCESS_KEY_ID" "$S3_SECRET_ACCESS_KEY"
if ! answer="$(mc admin policy attach kiln kiln-app --user "$S3_ACCESS_KEY_ID" 2>&1)"; then
    case "$answer" in
        *"already in effect"*) ;;
        *)
            printf '%s\n' "$answer" >&2
            exit 1
            ;;
    esac
fi
